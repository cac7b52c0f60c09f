package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	// Placeholder is an image that stands in a manifest for the one that is deployed.
	Placeholder = "slipway"
	// maxManifests bounds what is read, in bytes.
	maxManifests = 16 << 20
)

// kustomizations are the names that make a folder one of kustomize's.
var kustomizations = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// ReadManifests reads a folder: a kustomization, or every YAML and JSON file in it. A Helm chart also needs a Release.
func ReadManifests(dir string) ([]*unstructured.Unstructured, error) {
	return Release{}.Manifests(context.Background(), dir)
}

// Manifests reads a folder: a Helm chart, a kustomization, or every YAML and JSON file in it. Links out of the folder are refused;
// kustomize has its own rules.
func (r Release) Manifests(ctx context.Context, dir string) ([]*unstructured.Unstructured, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, result.Inputf("reading manifests: %w", err)
	}
	defer root.Close()
	has := func(file string) bool {
		_, err := root.Lstat(file)
		return err == nil
	}
	isChart, isKustomization := has(chartFile), slices.ContainsFunc(kustomizations, has)
	switch {
	case isChart && isKustomization:
		return nil, result.Inputf("the folder of manifests is a Helm chart and a kustomization: which of them is meant? Give a folder that is one of them")
	case isChart:
		return r.render(ctx, root)
	case len(r.Values) > 0:
		return nil, result.Inputf("there are values, and the folder of manifests is no Helm chart: it has no %s", chartFile)
	case isKustomization:
		return kustomize(dir)
	}
	return readFiles(root)
}

func readFiles(root *os.Root) ([]*unstructured.Unstructured, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, result.Inputf("reading manifests: %w", err)
	}
	var all []*unstructured.Unstructured
	left := maxManifests
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			continue
		}
		data, err := readBounded(root, e.Name(), &left)
		if err != nil {
			return nil, err
		}
		objects, err := Parse(e.Name(), data)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	if len(all) == 0 {
		return nil, result.Inputf("the folder of manifests holds no object: put .yaml, .yml or .json files, a kustomization.yaml or a Chart.yaml at its top")
	}
	return all, unique(all)
}

// readBounded reads a file inside root, and takes its size from what may still be read.
func readBounded(root *os.Root, file string, left *int) ([]byte, error) {
	info, err := root.Stat(file)
	if err != nil {
		return nil, result.Inputf("reading manifests: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, result.Inputf("reading manifests: %s is no regular file", file)
	}
	f, err := root.Open(file)
	if err != nil {
		return nil, result.Inputf("reading manifests: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(*left)+1))
	if err != nil {
		return nil, result.Inputf("reading manifests: %w", err)
	}
	if *left -= len(data); *left < 0 {
		return nil, tooLarge()
	}
	return data, nil
}

func tooLarge() error { return result.Inputf("reading manifests: more than %d bytes", maxManifests) }

func kustomize(dir string) ([]*unstructured.Unstructured, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, result.Inputf("kustomize: %w", err)
	}
	data, err := resources.AsYaml()
	if err != nil {
		return nil, result.Inputf("kustomize: %w", err)
	}
	return Parse("kustomization", data)
}

// Parse decodes the YAML or JSON documents of one file, whose name stands in messages. Lists are taken apart.
func Parse(file string, data []byte) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for n := 1; ; n++ {
		var raw json.RawMessage
		var o unstructured.Unstructured
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err == nil && len(raw) > 0 { // else comments
			err = utiljson.Unmarshal(raw, &o.Object) // whole numbers as int64, which unstructured asks for
		}
		if err != nil {
			return nil, result.Inputf("%s: document %d: %w", file, n, err)
		}
		if len(o.Object) == 0 {
			continue // nothing between two separators
		}
		objects := []*unstructured.Unstructured{&o}
		if o.IsList() {
			list, err := o.ToList()
			if err != nil {
				return nil, result.Inputf("%s: document %d: %w", file, n, err)
			}
			objects = objects[:0]
			for i := range list.Items {
				objects = append(objects, &list.Items[i])
			}
		}
		for _, o := range objects {
			if err := check(o); err != nil {
				return nil, result.Inputf("%s: document %d: %w", file, n, err)
			}
		}
		all = append(all, objects...)
	}
}

// Render writes objects as YAML documents that Parse reads, keys sorted: the same objects give the same bytes. Secrets stand in it as they are.
func Render(objects []*unstructured.Unstructured) ([]byte, error) {
	var all bytes.Buffer
	for _, o := range objects {
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", Name(o), err)
		}
		all.WriteString("---\n")
		all.Write(text)
	}
	return all.Bytes(), nil
}

// check asks for what every object must have, with the types that its methods take for granted.
func check(o *unstructured.Unstructured) error {
	for _, path := range [][]string{{"apiVersion"}, {"kind"}, {"metadata", "name"}} {
		s, found, err := unstructured.NestedString(o.Object, path...)
		if err != nil || !found || s == "" {
			return fmt.Errorf("%s is missing, or no text", strings.Join(path, "."))
		}
	}
	for _, path := range [][]string{{"metadata", "labels"}, {"metadata", "annotations"}} {
		if _, _, err := unstructured.NestedStringMap(o.Object, path...); err != nil {
			return fmt.Errorf("%s: %w", o.GetName(), err)
		}
	}
	return nil
}

// unique refuses two manifests of one object: the second would silently win.
func unique(objects []*unstructured.Unstructured) error {
	seen := map[string]bool{}
	for _, o := range objects {
		id := o.GroupVersionKind().GroupKind().String() + " " + o.GetNamespace() + "/" + o.GetName()
		if seen[id] {
			return result.Inputf("%s is there twice", Name(o))
		}
		seen[id] = true
	}
	return nil
}

// podSpecs are the paths to the pods of what makes pods.
var podSpecs = map[string][]string{
	"Deployment": {"spec", "template", "spec"}, "StatefulSet": {"spec", "template", "spec"}, "DaemonSet": {"spec", "template", "spec"},
	"ReplicaSet": {"spec", "template", "spec"}, "Job": {"spec", "template", "spec"}, "CronJob": {"spec", "jobTemplate", "spec", "template", "spec"},
	"Pod": {"spec"},
}

// SetImage puts the image, by digest, into every container that is meant: one whose image is the placeholder or of the same repository, or
// else the only container that there is.
func SetImage(objects []*unstructured.Unstructured, image name.Digest) error {
	var all, meant []map[string]any
	var names []string
	for _, o := range objects {
		path, ok := podSpecs[o.GetKind()]
		if !ok {
			continue
		}
		for _, list := range []string{"initContainers", "containers"} {
			containers, _, err := unstructured.NestedFieldNoCopy(o.Object, append(slices.Clone(path), list)...)
			if err != nil {
				return result.Inputf("%s: %w", Name(o), err)
			}
			items, ok := containers.([]any)
			if containers != nil && !ok {
				return result.Inputf("%s: %s is no list", Name(o), list)
			}
			for _, item := range items {
				c, ok := item.(map[string]any)
				if !ok {
					return result.Inputf("%s: an entry of %s is no container", Name(o), list)
				}
				text, _ := c["image"].(string)
				all = append(all, c)
				names = append(names, fmt.Sprintf("%s of %s (%s)", c["name"], Name(o), text))
				if text == Placeholder || sameRepository(text, image) {
					meant = append(meant, c)
				}
			}
		}
	}
	if len(meant) == 0 && len(all) == 1 {
		meant = all
	}
	switch {
	case len(all) == 0:
		return result.Inputf("the manifests hold no container: there is nothing to deploy the image to")
	case len(meant) == 0:
		return result.Inputf("no container of the manifests has an image of %s: write \"image: %s\" where it belongs: there are %s",
			image.Context(), Placeholder, strings.Join(names, ", "))
	}
	for _, c := range meant {
		c["image"] = image.String()
	}
	return nil
}

func sameRepository(text string, image name.Digest) bool {
	ref, err := name.ParseReference(text)
	return err == nil && ref.Context().Name() == image.Context().Name()
}
