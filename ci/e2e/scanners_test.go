//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/slipwayhq/slipway/ci/e2e/images"
	"github.com/slipwayhq/slipway/stages/vulndb/fixture"
)

// TestScanners holds the SBOM and scan stages against syft and trivy on images of several distributions and languages, with advisories
// about every package in them: some that apply, some that just do not.
func TestScanners(t *testing.T) {
	dir := t.TempDir()
	programs := filepath.Join(dir, "bin")
	mustDagger(t, "toolbox", "rootfs", "directory", "--path", "/usr/local/bin", "export", "--path", programs)
	layouts := scannedLayouts(t, dir)
	listed := map[string]*syftList{}
	var advisories []fixture.Advisory
	for _, name := range slices.Sorted(maps.Keys(layouts)) {
		out := filepath.Join(dir, name+".syft.json")
		tool(t, "syft", "scan", "-q", "oci-dir:"+single(t, layouts[name]), "-o", "syft-json="+out)
		list := readJSON[syftList](t, out)
		if len(list.Artifacts) == 0 {
			t.Fatalf("%s: syft finds nothing in it: nothing is proved", name)
		}
		listed[name] = &list
		advisories = list.advisories(t, advisories)
	}
	database, db := shared.registry+"/fixtures/every-package:2", filepath.Join(dir, "db")
	writeJSON(t, filepath.Join(dir, "advisories", "all.json"), advisories)
	tool(t, "go", "run", "./stages/vulndb/cmd/fixturedb", "-advisories", filepath.Join(dir, "advisories"), "-out", db, "-push", database)
	source, planned := filepath.Join(dir, "nothing"), filepath.Join(dir, "plan")
	if err := os.Mkdir(source, 0o750); err != nil {
		t.Fatal(err)
	}
	tool(t, filepath.Join(programs, "plan"), "-source", filepath.Join(shared.root, "testdata", "sample"), "-out", planned)

	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			sbom, scan := filepath.Join(dir, name, "sbom"), filepath.Join(dir, name, "scan")
			tool(t, filepath.Join(programs, "sbom"), "-layout", layout, "-name", name, "-epoch", "1767323045", "-out", sbom)
			documents, err := filepath.Glob(filepath.Join(sbom, "linux-*"))
			if err != nil || len(documents) != 1 {
				t.Fatalf("SBOMs: %v, %v", documents, err)
			}
			spdx, cdx := filepath.Join(documents[0], "sbom.spdx.json"), filepath.Join(documents[0], "sbom.cdx.json")
			same(t, "syft's packages and the SPDX document's", listed[name].names(), spdxNames(t, spdx))
			same(t, "syft's packages and the CycloneDX document's", listed[name].names(), cycloneDXNames(t, cdx))
			if name != "golang" && name != "debian" { // the validators take minutes for their thousands of files
				validate(t, spdx, cdx)
			}

			// The verdict is "fail", which is an exit code: every package has advisories that apply.
			out := command(t, 5*time.Minute, filepath.Join(programs, "scan"), "-sbom", sbom, "-db", db, "-source", source,
				"-plan", filepath.Join(planned, "plan.json"), "-now", time.Now().UTC().Format(time.RFC3339), "-out", scan)
			if out.code != 1 {
				t.Fatalf("scan: exit code %d\n%s", out.code, out.stderr)
			}
			want := filepath.Join(dir, name, "trivy.json")
			tool(t, "trivy", "image", "--quiet", "--input", single(t, layout), "--cache-dir", filepath.Join(dir, "trivy"), "--db-repository", database,
				"--skip-java-db-update", "--skip-version-check", "--offline-scan", "--scanners", "vuln", "--format", "json", "--output", want)
			theirs, ours := trivyFound(t, want), scanFound(t, filepath.Join(scan, "scan.json"))
			if len(theirs) == 0 {
				t.Fatal("trivy finds nothing: nothing is proved")
			}
			t.Logf("%d packages, %d findings", len(listed[name].Artifacts), len(theirs))
			same(t, "trivy's findings and the scan's", theirs, ours)
		})
	}
}

// spelled is a package as both tools would write it: a package URL has PyPI's names in lower case, and Go's own version without its v.
func spelled(id, severity, name, version string) string {
	if name == "stdlib" {
		version = strings.TrimPrefix(version, "v")
	}
	return fmt.Sprintf("%s %s %s %s", id, strings.ToLower(severity), strings.ToLower(name), version)
}

// same compares two sets and names what only one of them has.
func same(t *testing.T, what string, theirs, ours []string) {
	t.Helper()
	only := func(a, b []string) (out []string) {
		for _, s := range a {
			if !slices.Contains(b, s) {
				out = append(out, s)
			}
		}
		return out
	}
	if missing, extra := only(theirs, ours), only(ours, theirs); len(missing)+len(extra) > 0 {
		const most = 20
		t.Errorf("%s differ: %d missing %q, %d too many %q", what, len(missing), missing[:min(most, len(missing))], len(extra), extra[:min(most, len(extra))])
	}
}

// scannedLayouts are OCI layouts of one image each: Debian's, one with a compiler, a static service, Alpine with npm's and PyPI's packages,
// and one with an RPM database.
func scannedLayouts(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for name, ref := range map[string]string{"debian": "docker.io/library/debian:bookworm-slim", "golang": "docker.io/library/golang:1.26-bookworm"} {
		archive := filepath.Join(dir, name+".tar")
		tool(t, "dagger", "core", "--silent", "container", "from", "--address", ref, "as-tarball", "export", "--path", archive)
		all[name] = filepath.Join(dir, "layouts", name)
		if err := images.FromArchive(archive, all[name]); err != nil {
			t.Fatal(err)
		}
	}
	all["sample"] = filepath.Join(dir, "layouts", "sample")
	source := folder("testdata", "sample")(t)
	one := filepath.Join(t.TempDir(), "slipway.yaml")
	if err := os.WriteFile(one, []byte("build: {platforms: [linux/arm64]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustDagger(t, "--source", source, "--config", one, "build", "layout", "export", "--path", all["sample"])

	all["alpine"] = filepath.Join(dir, "layouts", "alpine")
	writeLayout(t, all["alpine"], map[string][]byte{
		"etc/os-release":     []byte("ID=alpine\nVERSION_ID=3.20.3\nNAME=\"Alpine Linux\"\n"),
		"etc/alpine-release": []byte("3.20.3\n"),
		"lib/apk/db/installed": []byte("P:libcrypto3\nV:3.3.2-r0\nA:x86_64\nL:Apache-2.0\no:openssl\n\n" +
			"P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\n\nP:ssl_client\nV:1.36.1-r29\nA:x86_64\nL:GPL-2.0-only\no:busybox\n\n"),
		"app/node_modules/lodash/package.json":                             []byte(`{"name":"lodash","version":"4.17.20","license":"MIT"}`),
		"app/node_modules/@babel/core/package.json":                        []byte(`{"name":"@babel/core","version":"7.23.0","license":"MIT"}`),
		"usr/lib/python3.12/site-packages/Jinja2-3.1.2.dist-info/METADATA": []byte("Metadata-Version: 2.1\nName: Jinja2\nVersion: 3.1.2\n"),
		"usr/lib/python3.12/site-packages/Jinja2-3.1.2.dist-info/RECORD":   nil,
	})

	var m struct{ Dir string }
	if err := json.Unmarshal([]byte(tool(t, "go", "mod", "download", "-json", "github.com/knqyf263/go-rpmdb@v0.1.1")), &m); err != nil {
		t.Fatal(err)
	}
	rpms, err := os.ReadFile(filepath.Join(m.Dir, "pkg", "testdata", "cbl-mariner-2.0", "rpmdb.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	all["mariner"] = filepath.Join(dir, "layouts", "mariner")
	writeLayout(t, all["mariner"], map[string][]byte{
		"etc/os-release":           []byte("ID=mariner\nVERSION_ID=\"2.0\"\nNAME=\"Common Base Linux Mariner\"\n"),
		"etc/mariner-release":      []byte("CBL-Mariner 2.0.20220527\nMARINER_BUILD_NUMBER=50e5a5b\n"),
		"var/lib/rpm/rpmdb.sqlite": rpms,
	})
	return all
}

// single is the layout of the one image in a layout that names its platform: most tools read no other.
func single(t *testing.T, layout string) string {
	t.Helper()
	find := func() []string {
		found, err := filepath.Glob(filepath.Join(layout, "linux-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if len(find()) == 0 {
		if err := images.Split(layout); err != nil {
			t.Fatal(err)
		}
	}
	found := find()
	if len(found) != 1 {
		t.Fatalf("%s has %v", layout, found)
	}
	return found[0]
}

// writeLayout makes an image with these files.
func writeLayout(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: rootFS(t, img)}); err != nil {
		t.Fatal(err)
	}
	if err := images.Write(dir, img); err != nil {
		t.Fatal(err)
	}
}

func rootFS(t *testing.T, img v1.Image) v1.RootFS {
	t.Helper()
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return cfg.RootFS
}

// syftList is the part of syft's own format that is compared.
type syftList struct {
	Artifacts []struct {
		Name     string `json:"name"`
		Version  string `json:"version"`
		Type     string `json:"type"`
		Metadata struct {
			Source        string `json:"source"`
			SourceVersion string `json:"sourceVersion"`
			OriginPackage string `json:"originPackage"`
			SourceRPM     string `json:"sourceRpm"`
		} `json:"metadata"`
	} `json:"artifacts"`
	Distro struct {
		ID        string `json:"id"`
		VersionID string `json:"versionID"`
	} `json:"distro"`
}

func (l *syftList) names() (out []string) {
	for _, a := range l.Artifacts {
		out = append(out, a.Name+"@"+a.Version)
	}
	return out
}

// advisories adds four about every package: one that a later version mends, one that none does, one that was mended long ago, and one that
// was mended in this very version.
func (l *syftList) advisories(t *testing.T, all []fixture.Advisory) []fixture.Advisory {
	t.Helper()
	for _, a := range l.Artifacts {
		ecosystem, name, version := l.kept(a.Type, a.Name, a.Version, a.Metadata.Source, a.Metadata.SourceVersion, a.Metadata.OriginPackage, a.Metadata.SourceRPM)
		if ecosystem == "" || slices.ContainsFunc(all, func(b fixture.Advisory) bool { return b.Ecosystem == ecosystem && b.Package == name }) {
			continue
		}
		late, early := "9999:9-9", "0:0-0"
		if a.Type == "apk" {
			late, early = "9999.0.0-r0", "0.0.0-r0"
		}
		for i, fixed := range []string{late, "", early, version} {
			adv := fixture.Advisory{ID: fmt.Sprintf("CVE-2026-%05d", 10000+len(all)), Ecosystem: ecosystem, Package: name, Title: "Planted",
				Severity: []string{"critical", "low", "high", "medium"}[i]}
			if strings.Contains(ecosystem, " ") {
				adv.Fixed = fixed
			} else {
				switch i {
				case 0:
					adv.Vulnerable, adv.Patched = []string{"<9999.0.0"}, []string{">=9999.0.0"}
				case 1:
					adv.Vulnerable = []string{">=0.0.0-0"}
				case 2:
					adv.Vulnerable, adv.Patched = []string{"<0.0.0-0"}, []string{">=0.0.0-0"}
				case 3:
					adv.Vulnerable, adv.Patched = []string{"<" + version}, []string{">=" + version}
				}
			}
			all = append(all, adv)
		}
	}
	return all
}

// kept is where Trivy's database keeps the advisories about a package: by its source package where the distribution does so.
func (l *syftList) kept(kind, name, version, source, sourceVersion, origin, sourceRPM string) (ecosystem, key, at string) {
	or := func(a, b string) string {
		if a != "" {
			return a
		}
		return b
	}
	switch kind {
	case "deb":
		major, _, _ := strings.Cut(l.Distro.VersionID, ".")
		return "debian " + major, or(source, name), or(sourceVersion, version)
	case "apk":
		return "alpine " + l.Distro.VersionID[:strings.LastIndex(l.Distro.VersionID, ".")], or(origin, name), version
	case "rpm":
		nvr := strings.Split(strings.TrimSuffix(sourceRPM, ".src.rpm"), "-")
		if len(nvr) < 3 {
			return "", "", "" // a public key is no package
		}
		return "CBL-Mariner " + l.Distro.VersionID, strings.Join(nvr[:len(nvr)-2], "-"), strings.Join(nvr[len(nvr)-2:], "-")
	case "go-module":
		version = strings.TrimPrefix(strings.TrimPrefix(version, "go"), "v")
		if version == "" || version[0] < '0' || version[0] > '9' {
			version = "0.0.0" // built without version control
		}
		return "go", name, version
	case "npm":
		return "npm", name, version
	case "python":
		return "pip", strings.ToLower(strings.ReplaceAll(name, "_", "-")), version
	}
	return "", "", ""
}

func spdxNames(t *testing.T, file string) (out []string) {
	t.Helper()
	doc := readJSON[struct {
		Packages []struct{ SPDXID, Name, VersionInfo string }
	}](t, file)
	for _, p := range doc.Packages {
		if !strings.HasPrefix(p.SPDXID, "SPDXRef-DocumentRoot-") {
			out = append(out, p.Name+"@"+p.VersionInfo)
		}
	}
	return out
}

func cycloneDXNames(t *testing.T, file string) (out []string) {
	t.Helper()
	doc := readJSON[struct {
		Components []struct{ Type, Name, Version string }
	}](t, file)
	for _, c := range doc.Components {
		if c.Type != "file" && c.Type != "operating-system" {
			out = append(out, c.Name+"@"+c.Version)
		}
	}
	return out
}

func trivyFound(t *testing.T, file string) (out []string) {
	t.Helper()
	report := readJSON[struct {
		Results []struct {
			Vulnerabilities []struct{ VulnerabilityID, PkgName, InstalledVersion, Severity string }
		}
	}](t, file)
	for _, r := range report.Results {
		for _, v := range r.Vulnerabilities {
			out = append(out, spelled(v.VulnerabilityID, v.Severity, v.PkgName, v.InstalledVersion))
		}
	}
	return out
}

func scanFound(t *testing.T, file string) (out []string) {
	t.Helper()
	report := readJSON[struct {
		Findings []struct{ ID, Severity, Message string }
	}](t, file)
	for _, f := range report.Findings {
		if strings.HasPrefix(f.ID, "CVE-") {
			pkg, _, _ := strings.Cut(f.Message, ": ")
			name, version, _ := strings.Cut(pkg, " ")
			out = append(out, spelled(f.ID, f.Severity, name, version))
		}
	}
	return out
}
