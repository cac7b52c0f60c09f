package sbom

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	spdx "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// imageOf is an OCI layout with one image for each architecture that holds a compiled program of this module.
func imageOf(t *testing.T, arches ...string) string {
	t.Helper()
	dir := t.TempDir()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range arches {
		binary := filepath.Join(t.TempDir(), "plan")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/slipwayhq/slipway/stages/plan/cmd/plan")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		data, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		if err := tw.WriteHeader(&tar.Header{Name: "plan", Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendIndex(index); err != nil {
		t.Fatal(err)
	}
	return dir
}

func describe(t *testing.T, image string) (*result.Result, map[string][]byte) {
	t.Helper()
	in := Inputs{Layout: image, Name: "app", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Out: t.TempDir()}
	t.Setenv("TMPDIR", os.Getenv("TMPDIR")) // the stage sets it for its process
	r, err := Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range r.Files {
		data, err := os.ReadFile(filepath.Join(in.Out, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		files[f.Path] = data
	}
	return r, files
}

// TestRun reads both documents with the formats' own libraries, and looks for what the program is known to link.
func TestRun(t *testing.T) {
	image := imageOf(t, "amd64", "arm64")
	r, files := describe(t, image)
	if r.Verdict != result.Pass || len(files) != 4 {
		t.Fatalf("%+v with %v", r, slices.Collect(maps.Keys(files)))
	}
	for _, platform := range []string{"linux-amd64", "linux-arm64"} {
		doc, err := spdx.Read(bytes.NewReader(files[platform+"/"+SPDXName]))
		if err != nil {
			t.Fatal(err)
		}
		if err := spdxlib.ValidateDocument(doc); err != nil {
			t.Error(err)
		}
		if doc.SPDXVersion != "SPDX-2.3" || doc.CreationInfo.Created != "2026-01-02T03:04:05Z" {
			t.Errorf("%s of %s", doc.SPDXVersion, doc.CreationInfo.Created)
		}
		var spdxNames []string
		for _, p := range doc.Packages {
			spdxNames = append(spdxNames, p.PackageName)
		}
		var bom cyclonedx.BOM
		if err := cyclonedx.NewBOMDecoder(bytes.NewReader(files[platform+"/"+CycloneDXName]), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
			t.Fatal(err)
		}
		if bom.BOMFormat != cyclonedx.BOMFormat || bom.SpecVersion < cyclonedx.SpecVersion1_5 || bom.Metadata.Timestamp != "2026-01-02T03:04:05Z" {
			t.Errorf("%s %v of %s", bom.BOMFormat, bom.SpecVersion, bom.Metadata.Timestamp)
		}
		var cdxNames []string
		for _, c := range *bom.Components {
			cdxNames = append(cdxNames, c.Name)
		}
		for _, want := range []string{"github.com/go-git/go-git/v5", "golang.org/x/mod", "github.com/slipwayhq/slipway", "stdlib"} {
			if !slices.Contains(spdxNames, want) || !slices.Contains(cdxNames, want) {
				t.Errorf("%s: %s is not in both documents: %v, %v", platform, want, spdxNames, cdxNames)
			}
		}
		for name, data := range files {
			if strings.Contains(string(data), os.TempDir()) || strings.Contains(string(data), image) {
				t.Errorf("%s names a folder of this machine", name)
			}
		}
	}

	_, again := describe(t, image)
	for name, data := range files {
		if !bytes.Equal(data, again[name]) {
			t.Errorf("%s differs the second time", name)
		}
	}
}

// TestHostileLayer lists an image whose layer wants to write outside, links there, brings devices, and unpacks to a gigabyte.
func TestHostileLayer(t *testing.T) {
	const zeros = 1 << 30
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	apk := "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\n\n"
	entries := []struct {
		h    tar.Header
		text string
	}{
		{tar.Header{Name: "etc/os-release", Typeflag: tar.TypeReg}, "ID=alpine\nVERSION_ID=3.20.3\n"},
		{tar.Header{Name: "lib/apk/db/installed", Typeflag: tar.TypeReg}, apk},
		{tar.Header{Name: strings.Repeat("../", 20) + outside + "/dots", Typeflag: tar.TypeReg}, "evil"},
		{tar.Header{Name: outside + "/absolute", Typeflag: tar.TypeReg}, "evil"},
		{tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: outside}, ""},
		{tar.Header{Name: "link/through", Typeflag: tar.TypeReg}, "evil"},
		{tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../../../../../../etc/passwd"}, ""},
		{tar.Header{Name: "loop", Typeflag: tar.TypeSymlink, Linkname: "loop"}, ""},
		{tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8}, ""},
		{tar.Header{Name: "dev/pipe", Typeflag: tar.TypeFifo}, ""},
	}
	opener := func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			tw := tar.NewWriter(w)
			for _, e := range entries {
				e.h.Size, e.h.Mode = int64(len(e.text)), 0o644
				if err := tw.WriteHeader(&e.h); err == nil {
					_, _ = io.WriteString(tw, e.text)
				}
			}
			if err := tw.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: zeros, Mode: 0o755}); err == nil {
				block := make([]byte, 1<<20)
				for range zeros / len(block) {
					_, _ = tw.Write(block)
				}
			}
			w.CloseWithError(tw.Close())
		}()
		return r, nil
	}
	layer, err := tarball.LayerFromOpener(opener, tarball.WithCompressedCaching)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendIndex(mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{Add: img,
		Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, files := describe(t, dir)
	runtime.ReadMemStats(&after)
	if !strings.Contains(string(files["linux-amd64/"+SPDXName]), "musl") {
		t.Error("the package in the image is not listed")
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("it wrote outside: %v, %v", left, err)
	}
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > zeros/4 {
		t.Errorf("it took %d bytes of memory", grown)
	}
}

func TestRunRefuses(t *testing.T) {
	for name, dir := range map[string]string{"nothing": "/nonexistent", "no layout": t.TempDir()} {
		if _, err := Run(t.Context(), Inputs{Layout: dir, Name: "app", Out: t.TempDir()}); !result.IsInput(err) {
			t.Errorf("%s: error = %v, want an input error", name, err)
		}
	}
}

func TestSettleRefuses(t *testing.T) {
	for name, f := range map[string]func([]byte, identity) ([]byte, error){"SPDX": settleSPDX, "CycloneDX": settleCycloneDX} {
		for _, data := range []string{"", "[]", "{}", `{"creationInfo":3,"metadata":3}`} {
			if out, err := f([]byte(data), identity{}); err == nil {
				t.Errorf("%s took %q and made %s", name, data, out)
			}
		}
	}
}
