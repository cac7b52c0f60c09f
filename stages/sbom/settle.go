package sbom

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// identity is what makes a document this image's and no other's.
type identity struct {
	name, digest, platform string
	created                time.Time
}

// id is the same for the same image: a UUID version 5.
func (i identity) id() string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://slipway.dev/sbom/"+i.name+"/"+i.platform+"/"+i.digest)).String()
}

// settleSPDX replaces the random namespace and the clock's time.
func settleSPDX(data []byte, i identity) ([]byte, error) {
	return edit(data, func(doc map[string]json.RawMessage) error {
		if err := set(doc, "documentNamespace", "https://slipway.dev/spdx/"+i.name+"/"+i.id()); err != nil {
			return err
		}
		info := map[string]json.RawMessage{}
		if err := json.Unmarshal(doc["creationInfo"], &info); err != nil {
			return errors.New("it has no creationInfo")
		}
		if err := set(info, "created", i.created.UTC().Format(time.RFC3339)); err != nil {
			return err
		}
		return set(doc, "creationInfo", info)
	})
}

// settleCycloneDX replaces the random serial number and the clock's time.
func settleCycloneDX(data []byte, i identity) ([]byte, error) {
	return edit(data, func(doc map[string]json.RawMessage) error {
		if err := set(doc, "serialNumber", "urn:uuid:"+i.id()); err != nil {
			return err
		}
		meta := map[string]json.RawMessage{}
		if err := json.Unmarshal(doc["metadata"], &meta); err != nil {
			return errors.New("it has no metadata")
		}
		if err := set(meta, "timestamp", i.created.UTC().Format(time.RFC3339)); err != nil {
			return err
		}
		return set(doc, "metadata", meta)
	})
}

func edit(data []byte, do func(map[string]json.RawMessage) error) ([]byte, error) {
	doc := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if err := do(doc); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(doc)
	return b.Bytes(), err
}

func set(doc map[string]json.RawMessage, key string, value any) error {
	b, err := json.Marshal(value)
	doc[key] = b
	return err
}

// tools names the library that did the work, with the version that is linked in.
func tools() []result.Tool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/anchore/syft" {
			return []result.Tool{{Name: "syft", Version: d.Version}}
		}
	}
	return nil
}
