package image

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

// program is the smallest ELF file that counts as one: a header and program headers of the given types.
func program(t testing.TB, arch string, kind elf.Type, segments ...elf.ProgType) []byte {
	t.Helper()
	want, ok := targetOf(arch)
	if !ok {
		t.Fatal(arch)
	}

	count := uint16(len(segments))
	var order binary.ByteOrder = binary.LittleEndian
	if want.data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	var b bytes.Buffer
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(want.class), byte(want.data), byte(elf.EV_CURRENT)}
	var err error
	if want.class == elf.ELFCLASS64 {
		err = binary.Write(&b, order, elf.Header64{Ident: ident, Type: uint16(kind), Machine: uint16(want.machine), Version: 1, Phoff: 64, Ehsize: 64,
			Phentsize: 56, Phnum: count})
		for _, s := range segments {
			err = errors.Join(err, binary.Write(&b, order, elf.Prog64{Type: uint32(s)}))
		}
	} else {
		err = binary.Write(&b, order, elf.Header32{Ident: ident, Type: uint16(kind), Machine: uint16(want.machine), Version: 1, Phoff: 52, Ehsize: 52,
			Phentsize: 32, Phnum: count})
		for _, s := range segments {
			err = errors.Join(err, binary.Write(&b, order, elf.Prog32{Type: uint32(s)}))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t testing.TB, p string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// zones writes a zoneinfo.zip with the named entries.
func zones(t testing.TB, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, n := range names {
		w, err := z.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(n, "/") {
			if _, err := io.WriteString(w, "TZif "+n); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "zoneinfo.zip")
	writeFile(t, p, b.Bytes())
	return p
}

// options are an image's for two platforms, with binaries that need no compiler.
func options(t testing.TB) Options {
	t.Helper()
	bin := t.TempDir()
	for dir, arch := range map[string]string{"linux-amd64": "amd64", "linux-arm64": "arm64"} {
		for _, n := range []string{"shop", "job"} {
			writeFile(t, filepath.Join(bin, dir, n), append(program(t, arch, elf.ET_EXEC, elf.PT_LOAD), n...))
		}
	}
	return Options{
		Bin: bin, Binaries: []string{"shop", "job"}, Entrypoint: "shop", Args: []string{"serve"}, Platforms: []string{"linux/amd64", "linux/arm64/v8"},
		User: "65532:65532", Env: map[string]string{"LEVEL": "info", "PATH": "/usr/local/bin"}, Ports: []int{9090, 8080},
		Labels:  map[string]string{"org.opencontainers.image.title": "shop", "org.opencontainers.image.version": "v1.2.3"},
		Created: time.Unix(1767323045, 0), Zoneinfo: zones(t, "UTC", "Europe/Oslo", "America/Argentina/Salta"), Out: t.TempDir(),
	}
}

func assemble(t testing.TB, o Options) *Image {
	t.Helper()
	img, err := Assemble(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// The digest of fixed inputs is fixed. It changes with the certificates (golang.org/x/crypto/x509roots/fallback) and with the compressor
// (github.com/klauspost/compress) in go.mod, and with nothing else: whoever changes it, changes every user's digests.
func TestDigestIsFixed(t *testing.T) {
	const want = "sha256:f16661e4199d7eaa0a324720aefd386c7668d953504e300a2fbb433ef0757e6f"
	if got := assemble(t, options(t)).Digest; got != want {
		t.Errorf("digest is %s, want %s", got, want)
	}
}

func TestDigestDoesNotDependOnTheMachine(t *testing.T) {
	a := assemble(t, options(t))
	b := options(t)
	// Other order, zone, times and modes, and a process with another umask.
	slices.Reverse(b.Binaries)
	b.Created = b.Created.In(time.FixedZone("x", 3600))
	b.Zoneinfo = zones(t, "America/Argentina/Salta", "America/", "UTC", "Europe/Oslo")
	p := filepath.Join(b.Bin, "linux-amd64", "shop")
	if err := errors.Join(os.Chmod(p, 0o777), os.Chtimes(p, time.Unix(5, 0), time.Unix(5, 0))); err != nil {
		t.Fatal(err)
	}
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	if got := assemble(t, b).Digest; got != a.Digest {
		t.Errorf("%s and %s", a.Digest, got)
	}
	c := options(t)
	c.Created = c.Created.Add(time.Second)
	if got := assemble(t, c); got.Digest == a.Digest {
		t.Error("another commit's time does not show")
	}
}

func open(t testing.TB, o Options) v1.ImageIndex {
	t.Helper()
	index, err := layout.ImageIndexFromPath(filepath.Join(o.Out, LayoutDir))
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 1 {
		t.Fatalf("%d descriptors in index.json", len(m.Manifests))
	}
	inner, err := index.ImageIndex(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return inner
}

func TestLayoutIsValid(t *testing.T) {
	o := options(t)
	img := assemble(t, o)
	index := open(t, o)
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	if d, err := index.Digest(); err != nil || d.String() != img.Digest {
		t.Errorf("%s, %v; want %s", d, err, img.Digest)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	layers := map[v1.Hash]int{}
	for _, d := range m.Manifests {
		got = append(got, d.Platform.String()+" "+string(d.MediaType)+d.ArtifactType)
		if _, err := json.Marshal(d); err != nil {
			t.Error(err)
		}
		platform, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		mf, err := platform.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if mf.Annotations["org.opencontainers.image.version"] != "v1.2.3" {
			t.Errorf("annotations %v", mf.Annotations)
		}
		for _, l := range mf.Layers {
			layers[l.Digest]++
		}
	}
	if want := []string{"linux/amd64 application/vnd.oci.image.manifest.v1+json", "linux/arm64 application/vnd.oci.image.manifest.v1+json"}; !slices.Equal(got, want) {
		t.Errorf("manifests %v", got)
	}
	if len(layers) != 3 {
		t.Errorf("%d different layers, want the shared base and one for each platform", len(layers))
	}
	if m.Annotations["org.opencontainers.image.title"] != "shop" {
		t.Errorf("annotations %v", m.Annotations)
	}
	left, err := filepath.Glob(filepath.Join(o.Out, LayoutDir, "blobs", "sha256", ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestPushKeepsTheDigest(t *testing.T) {
	o := options(t)
	img := assemble(t, o)
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	ref, err := name.ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/shop:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, open(t, o)); err != nil {
		t.Fatal(err)
	}
	d, err := remote.Head(ref)
	if err != nil || d.Digest.String() != img.Digest {
		t.Errorf("%v, %v; want %s", d, err, img.Digest)
	}
}

func TestConfig(t *testing.T) {
	o := options(t)
	o.Platforms = []string{"linux/arm/v7"}
	for _, n := range o.Binaries {
		writeFile(t, filepath.Join(o.Bin, "linux-arm-v7", n), program(t, "arm", elf.ET_EXEC, elf.PT_LOAD))
	}
	img := assemble(t, o)
	h, err := v1.NewHash(img.Platforms[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	platform, err := open(t, o).Image(h)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := platform.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(cf.Config)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"Cmd":["serve"],"Entrypoint":["/usr/local/bin/shop"],"Env":["LEVEL=info","PATH=/usr/local/bin",` +
		`"SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],"Labels":{"org.opencontainers.image.title":"shop","org.opencontainers.image.version":"v1.2.3"},` +
		`"User":"65532:65532","WorkingDir":"/","ExposedPorts":{"8080/tcp":{},"9090/tcp":{}}}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	if cf.OS != "linux" || cf.Architecture != "arm" || cf.Variant != "v7" || !cf.Created.Equal(o.Created) || len(cf.History) != 0 {
		t.Errorf("%+v", cf)
	}
}

// entries reads a platform's files as "mode uid:gid name".
func entries(t *testing.T, o Options) (list []string, content map[string]string) {
	t.Helper()
	index := open(t, o)
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content = map[string]string{}
	for i, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		tr, last := tar.NewReader(r), ""
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			want := int64(0)
			if i == 1 {
				want = o.Created.Unix()
			}
			if h.ModTime.Unix() != want || strings.TrimSuffix(h.Name, "/") <= strings.TrimSuffix(last, "/") && last != "" && !strings.HasPrefix(h.Name, last) {
				t.Errorf("%s after %q at %s", h.Name, last, h.ModTime)
			}
			last = h.Name
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			content[h.Name] = string(b)
			list = append(list, fmt.Sprintf("%04o %d:%d %s", h.Mode, h.Uid, h.Gid, h.Name))
		}
	}
	return list, content
}

func TestFiles(t *testing.T) {
	o := options(t)
	o.User = "1000:2000"
	assemble(t, o)
	list, content := entries(t, o)
	for _, want := range []string{"1777 0:0 tmp/", "0700 65532:65532 home/nonroot/", "0700 1000:2000 home/app/", "0755 0:0 usr/local/bin/shop", "0755 0:0 usr/local/bin/job",
		"0644 0:0 etc/passwd", "0755 0:0 usr/share/zoneinfo/America/Argentina/", "0644 0:0 usr/share/zoneinfo/America/Argentina/Salta"} {
		if !slices.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, strings.Join(list, "\n"))
		}
	}
	if got, want := content["etc/passwd"], "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"+
		"app:x:1000:2000:app:/home/app:/sbin/nologin\n"; got != want {
		t.Errorf("passwd\n%s", got)
	}
	if got, want := content["etc/group"], "root:x:0:\nnonroot:x:65532:\napp:x:2000:\n"; got != want {
		t.Errorf("group\n%s", got)
	}
	n, rest := 0, []byte(content["etc/ssl/certs/ca-certificates.crt"])
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		n++
	}
	if n < 100 || len(bytes.TrimSpace(rest)) > 0 {
		t.Errorf("%d certificates, %d bytes beyond", n, len(rest))
	}
}

func TestAssembleRefuses(t *testing.T) {
	shop := func(o *Options) string { return filepath.Join(o.Bin, "linux-arm64", "shop") }
	tests := []struct {
		name   string
		change func(t *testing.T, o *Options)
		want   string
	}{
		{"root", func(_ *testing.T, o *Options) { o.User = "0:0" }, "is root"},
		{"user by name", func(_ *testing.T, o *Options) { o.User = "nobody" }, "is not a numeric uid"},
		{"no platform", func(_ *testing.T, o *Options) { o.Platforms = nil }, "no platforms"},
		{"entrypoint", func(_ *testing.T, o *Options) { o.Entrypoint = "sh" }, `entrypoint "sh" is none of the binaries`},
		{"missing binary", func(t *testing.T, o *Options) {
			if err := os.Remove(shop(o)); err != nil {
				t.Fatal(err)
			}
		}, "binary shop for linux/arm64 is missing: build it for every platform"},
		{"binary outside", func(_ *testing.T, o *Options) { o.Binaries = append(o.Binaries, "../../x") }, "escapes"},
		{"link", func(t *testing.T, o *Options) {
			if err := errors.Join(os.Remove(shop(o)), os.Symlink("job", shop(o))); err != nil {
				t.Fatal(err)
			}
		}, "is not a regular file"},
		{"other architecture", func(t *testing.T, o *Options) {
			writeFile(t, shop(o), program(t, "amd64", elf.ET_EXEC, elf.PT_LOAD))
		},
			"binary shop for linux/arm64: built for EM_X86_64"},
		{"dynamic", func(t *testing.T, o *Options) {
			writeFile(t, shop(o), program(t, "arm64", elf.ET_DYN, elf.PT_INTERP, elf.PT_LOAD))
		}, "dynamically linked (it asks for an interpreter): build it with CGO_ENABLED=0"},
		{"script", func(t *testing.T, o *Options) { writeFile(t, shop(o), []byte("#!/bin/sh\n")) }, "not an ELF program"},
		{"object file", func(t *testing.T, o *Options) {
			writeFile(t, shop(o), program(t, "arm64", elf.ET_REL, elf.PT_LOAD))
		}, "not a program"},
		{"nothing to load", func(t *testing.T, o *Options) { writeFile(t, shop(o), program(t, "arm64", elf.ET_EXEC)) }, "has no loadable segment"},
		{"zones missing", func(_ *testing.T, o *Options) { o.Zoneinfo += "x" }, "time zones"},
		{"zones outside", func(t *testing.T, o *Options) { o.Zoneinfo = zones(t, "../../etc/passwd") }, "is not a file inside the archive"},
		{"zones absolute", func(t *testing.T, o *Options) { o.Zoneinfo = zones(t, "/etc/passwd") }, "is not a file inside the archive"},
		{"zones twice", func(t *testing.T, o *Options) { o.Zoneinfo = zones(t, "UTC", "UTC") }, "is there twice"},
		{"zones file and directory", func(t *testing.T, o *Options) { o.Zoneinfo = zones(t, "a", "a/b") }, "is a file and a directory"},
		{"zones empty", func(t *testing.T, o *Options) { o.Zoneinfo = zones(t) }, "no entries"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t)
			tt.change(t, &o)
			_, err := Assemble(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if !result.IsInput(err) {
				t.Error("not marked as input")
			}
		})
	}
}

func TestAssembleRefusesASecondImage(t *testing.T) {
	o := options(t)
	assemble(t, o)
	if _, err := Assemble(t.Context(), o); err == nil || !strings.Contains(err.Error(), "holds an image already") {
		t.Errorf("%v", err)
	}
}

func TestZoneBomb(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("UTC")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, maxZone+1)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "z.zip")
	writeFile(t, p, b.Bytes())
	if _, err := zoneFiles(p); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("%v", err)
	}
}

func TestCheckELFKnowsEveryPlatform(t *testing.T) {
	for _, arch := range []string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64le", "riscv64", "s390x"} {
		if _, err := config.ParsePlatform("linux/" + arch); err != nil {
			t.Errorf("%s: %v", arch, err)
		}
		if err := CheckELF(bytes.NewReader(program(t, arch, elf.ET_EXEC, elf.PT_LOAD)), arch); err != nil {
			t.Errorf("%s: %v", arch, err)
		}
	}
	if err := CheckELF(bytes.NewReader(program(t, "amd64", elf.ET_EXEC, elf.PT_LOAD)), "pdp11"); err == nil {
		t.Error("unknown architecture accepted")
	}
}

func TestLabelsComeFromTheCommitOnly(t *testing.T) {
	p := &plan.Plan{Source: plan.Source{Commit: "abc", Epoch: 1767323045, License: "MIT", Remote: "https://mirror.example.com/x"}}
	p.Config.Build.Labels = map[string]string{"org.opencontainers.image.title": "Shop", "team": "a"}
	got := Labels(p, &plan.Component{Name: "shop", Module: "github.com/org/shop/v2"}, "v1.2.3")
	want := map[string]string{
		"org.opencontainers.image.title": "Shop", "org.opencontainers.image.version": "v1.2.3", "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
		"org.opencontainers.image.revision": "abc", "org.opencontainers.image.licenses": "MIT", "org.opencontainers.image.source": "https://github.com/org/shop", "team": "a",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestRun(t *testing.T) {
	o := options(t)
	p := &plan.Plan{Version: "v1.0.0", Config: config.Default(), Components: []plan.Component{{Name: "shop", Path: ".", Entrypoint: "shop",
		Mains: []plan.Main{{Dir: "./cmd/shop", Binary: "shop"}}}}}
	r, err := Run(t.Context(), Inputs{Bin: o.Bin, Plan: p, Out: o.Out})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(o.Out); err == nil {
		t.Error("a result without a stage was written")
	}
	b, err := os.ReadFile(filepath.Join(o.Out, FileName))
	if err != nil || !strings.Contains(string(b), r.Outputs["digest"]) || len(r.Findings) != 1 || r.Outputs["mediaType"] != "application/vnd.oci.image.index.v1+json" {
		t.Errorf("%s, %v: %+v", b, err, r)
	}
	for _, bad := range []Inputs{{Version: "v1 --"}, {Component: "x"}} {
		bad.Bin, bad.Plan, bad.Out = o.Bin, p, t.TempDir()
		if _, err := Run(t.Context(), bad); !result.IsInput(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func FuzzCheckELF(f *testing.F) {
	f.Add(program(f, "amd64", elf.ET_EXEC, elf.PT_LOAD))
	f.Add(program(f, "amd64", elf.ET_DYN, elf.PT_INTERP, elf.PT_DYNAMIC))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := CheckELF(bytes.NewReader(data), "amd64"); err == nil && !bytes.HasPrefix(data, []byte("\x7fELF\x02\x01")) {
			t.Error("accepted")
		}
	})
}

func FuzzZones(f *testing.F) {
	b, err := os.ReadFile(zones(f, "UTC", "a/b"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		p := filepath.Join(t.TempDir(), "z.zip")
		writeFile(t, p, data)
		files, err := zoneFiles(p)
		if err != nil {
			return
		}
		for _, file := range files {
			if file.name != zoneDir && !strings.HasPrefix(file.name, zoneDir+"/") || strings.Contains(file.name, "/../") {
				t.Errorf("%q", file.name)
			}
		}
	})
}

func BenchmarkAssemble(b *testing.B) {
	o := options(b)
	big := program(b, "amd64", elf.ET_EXEC, elf.PT_LOAD)
	for i := range 8 << 20 {
		big = append(big, byte(i>>3), byte(i>>11))
	}
	writeFile(b, filepath.Join(o.Bin, "linux-amd64", "shop"), big)
	b.SetBytes(int64(len(big)))
	b.ReportAllocs()
	for b.Loop() {
		o.Out = b.TempDir()
		if _, err := Assemble(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}
