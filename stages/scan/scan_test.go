package scan

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/vulndb"
	"github.com/slipwayhq/slipway/stages/vulndb/fixture"
)

var now = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// inputs are a database of the repository's advisories, an SBOM with packages (name@version, or a whole package URL) and a source.
func inputs(t *testing.T, packages []string, files map[string]string) Inputs {
	t.Helper()
	dir := t.TempDir()
	all, err := fixture.Read(filepath.Join("..", "..", "testdata", "advisories"))
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, fixture.Advisory{ID: "CVE-2026-90010", Ecosystem: "debian 12", Package: "glibc", Fixed: "2.36-9+deb12u9", Severity: "high", Title: "in the source package"},
		fixture.Advisory{ID: "CVE-2026-90012", Ecosystem: "alpine 3.20", Package: "openssl", Fixed: "3.3.1-r1", Severity: "high", Title: "in the origin"},
		fixture.Advisory{ID: "CVE-2026-90013", Ecosystem: "CBL-Mariner 2.0", Package: "openssl", Fixed: "0:1.1.1k-18.cm2", Severity: "high", Title: "in the source package"},
		fixture.Advisory{ID: "CVE-2026-90014", Ecosystem: "alma 9", Package: "bash", Fixed: "5.1.8-9.el9", Severity: "high", Title: "of another name"},
		fixture.Advisory{ID: "CVE-2026-90015", Ecosystem: "alma 9", Package: "nodejs:18::nodejs", Fixed: "18.0.0-2.el9", Severity: "high", Title: "in the module stream"},
		fixture.Advisory{ID: "CVE-2026-90016", Ecosystem: "amazon linux 2023", Package: "curl", Fixed: "8.5.0-1.amzn2023", Severity: "high", Title: "of another name"},
		fixture.Advisory{ID: "CVE-2026-90011", Ecosystem: "go", Package: "example.com/unfixed", Vulnerable: []string{">=0.0.1"}, Severity: "critical", Title: "no fix yet"})
	db := filepath.Join(dir, "db")
	if err := os.MkdirAll(db, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := fixture.Build(db, all, now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, platform := range []string{"linux-amd64", "linux-arm64"} {
		write(t, filepath.Join(dir, "sbom", platform, "sbom.cdx.json"), cyclonedx(packages))
	}
	source := filepath.Join(dir, "source")
	if err := os.MkdirAll(source, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(source, name), text)
	}
	return Inputs{SBOM: filepath.Join(dir, "sbom"), Database: db, Source: source, Policy: config.Default().Scan, Now: now, Out: filepath.Join(dir, "out")}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func cyclonedx(packages []string) string {
	var components []string
	for i, p := range packages {
		purl, licence := p, ""
		purl, licence, _ = strings.Cut(purl, " ")
		if !strings.HasPrefix(purl, "pkg:") {
			purl = "pkg:golang/" + purl
		}
		path, _, _ := strings.Cut(purl[strings.Index(purl, "/")+1:], "?")
		name, version, _ := strings.Cut(path, "@")
		kind := ""
		for _, distribution := range []string{"debian/", "alpine/", "mariner/", "almalinux/", "amzn/", "fedora/"} {
			name = strings.TrimPrefix(name, distribution)
		}
		if licence != "" {
			kind = fmt.Sprintf(`,"licenses":[{"license":{"id":%q}}]`, licence)
		}
		components = append(components, fmt.Sprintf(`{"bom-ref":"p%d","type":"library","name":%q,"version":%q,"purl":%q%s}`, i, name, version, purl, kind))
	}
	return `{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"metadata":{"component":{"bom-ref":"root","type":"container","name":"app"}},"components":[` +
		strings.Join(components, ",") + `]}`
}

// found lists the findings as "ID status".
func found(r *result.Result) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, strings.TrimSpace(f.ID+" "+f.Status))
	}
	return out
}

func TestVulnerabilities(t *testing.T) {
	tests := []struct {
		name     string
		packages []string
		change   func(*config.Scan)
		want     result.Verdict
		findings []string
	}{
		{"planted", []string{"github.com/gorilla/websocket@v1.4.0"}, nil, result.Fail, []string{"CVE-2020-27813"}},
		{"fixed version", []string{"github.com/gorilla/websocket@v1.4.1"}, nil, result.Pass, nil},
		{"below the threshold", []string{"golang.org/x/text@v0.31.0"}, nil, result.Pass, []string{"CVE-2026-90001 below-threshold"}},
		{"lower threshold", []string{"golang.org/x/text@v0.31.0"}, func(s *config.Scan) { s.Severity = "low" }, result.Fail, []string{"CVE-2026-90001"}},
		{"must not match", []string{"github.com/go-chi/chi/v5@v5.2.3", "github.com/google/uuid@v1.6.0"}, nil, result.Pass, nil},
		{"Debian by its source package", []string{"pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12&upstream=glibc"}, nil, result.Fail, []string{"CVE-2026-90010"}},
		{"Alpine by its origin", []string{"pkg:apk/alpine/libcrypto3@3.3.1-r0?arch=x86_64&distro=alpine-3.20.1&upstream=openssl"}, nil, result.Fail, []string{"CVE-2026-90012"}},
		{"CBL-Mariner by its source package", []string{"pkg:rpm/mariner/openssl-libs@1.1.1k-17.cm2?arch=x86_64&distro=mariner-2.0&upstream=openssl-1.1.1k-17.cm2.src.rpm"}, nil, result.Fail, []string{"CVE-2026-90013"}},
		{"AlmaLinux by another name", []string{"pkg:rpm/almalinux/bash@5.1.8-6.el9?arch=x86_64&distro=almalinux-9.3&upstream=bash-5.1.8-6.el9.src.rpm"}, nil, result.Fail, []string{"CVE-2026-90014"}},
		{"AlmaLinux's module stream", []string{"pkg:rpm/almalinux/nodejs@18.0.0-1.el9?arch=x86_64&distro=almalinux-9.3&rpmmod=nodejs:18:9030020231201:rhel9"}, nil, result.Fail, []string{"CVE-2026-90015"}},
		{"Amazon Linux by another name", []string{"pkg:rpm/amzn/curl@8.3.0-1.amzn2023?arch=x86_64&distro=amzn-2023"}, nil, result.Fail, []string{"CVE-2026-90016"}},
		{"a distribution without advisories", []string{"pkg:rpm/fedora/bash@5.2.15-1.fc38?arch=x86_64&distro=fedora-38"}, nil, result.Fail, []string{"unsupported-distribution"}},
		{"no distribution named", []string{"pkg:deb/debian/libc6@2.36-9?arch=amd64"}, nil, result.Fail, []string{"unsupported-distribution"}},
		{"unfixed", []string{"example.com/unfixed@v1.0.0"}, nil, result.Fail, []string{"CVE-2026-90011"}},
		{"unfixed and only fixable ones count", []string{"example.com/unfixed@v1.0.0"}, func(s *config.Scan) { s.FixableOnly = true }, result.Pass, []string{"CVE-2026-90011 unfixed"}},
		{"stale database", []string{"github.com/google/uuid@v1.6.0"}, func(s *config.Scan) { s.MaxDatabaseAge = config.Duration(time.Minute) }, result.Inconclusive, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := inputs(t, tt.packages, nil)
			if tt.change != nil {
				tt.change(&in.Policy)
			}
			r, err := Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != tt.want || !slices.Equal(found(r), tt.findings) {
				t.Errorf("%s %v, want %s %v", r.Verdict, found(r), tt.want, tt.findings)
			}
			for _, f := range r.Files {
				if info, err := os.Stat(filepath.Join(in.Out, f.Path)); err != nil || info.Size() == 0 {
					t.Errorf("%s: %v", f.Path, err)
				}
			}
		})
	}
}

func TestPredicate(t *testing.T) {
	in := inputs(t, []string{"github.com/gorilla/websocket@v1.4.0"}, nil)
	if _, err := Run(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(in.Out, VulnsName))
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Scanner struct {
			Result []struct{ ID string }
			DB     struct{ LastUpdate string }
		}
	}
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Scanner.Result) != 1 || p.Scanner.Result[0].ID != "CVE-2020-27813" || p.Scanner.DB.LastUpdate != "2026-03-10T11:00:00Z" {
		t.Errorf("predicate = %s", data)
	}
}

func TestExceptions(t *testing.T) {
	day := func(s string) config.Date {
		d, err := config.ParseDate(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	tests := []struct {
		name      string
		exception config.Exception
		want      result.Verdict
		findings  []string
	}{
		{"holds", config.Exception{ID: "CVE-2020-27813", Expires: day("2026-12-31")}, result.Pass, []string{"CVE-2020-27813 excepted"}},
		{"last day", config.Exception{ID: "CVE-2020-27813", Expires: day("2026-03-10")}, result.Pass, []string{"CVE-2020-27813 excepted"}},
		{"expired", config.Exception{ID: "CVE-2020-27813", Expires: day("2026-03-09")}, result.Fail, []string{"CVE-2020-27813", "CVE-2020-27813"}},
		{"unused", config.Exception{ID: "CVE-1", Expires: day("2026-12-31")}, result.Fail, []string{"CVE-2020-27813", "CVE-1 unused-exception"}},
		{"other package", config.Exception{ID: "CVE-2020-27813", Package: "example.com/x", Expires: day("2026-12-31")}, result.Fail,
			[]string{"CVE-2020-27813", "CVE-2020-27813 unused-exception"}},
		{"this package", config.Exception{ID: "CVE-2020-27813", Package: "github.com/gorilla/websocket", Expires: day("2026-12-31")}, result.Pass,
			[]string{"CVE-2020-27813 excepted"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := inputs(t, []string{"github.com/gorilla/websocket@v1.4.0"}, nil)
			in.Policy.Exceptions = []config.Exception{tt.exception}
			r, err := Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != tt.want || !slices.Equal(found(r), tt.findings) {
				t.Errorf("%s %v, want %s %v", r.Verdict, found(r), tt.want, tt.findings)
			}
		})
	}
}

func TestExpiredExceptionFailsEvenWhenUnused(t *testing.T) {
	in := inputs(t, []string{"github.com/google/uuid@v1.6.0"}, nil)
	d, err := config.ParseDate("2026-01-01")
	if err != nil {
		t.Fatal(err)
	}
	in.Policy.Exceptions = []config.Exception{{ID: "CVE-1", Expires: d, Line: 7}}
	r, err := Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != result.Fail || r.Findings[0].Location != "slipway.yaml:7" {
		t.Errorf("%s %+v, want a failure at slipway.yaml:7", r.Verdict, r.Findings)
	}
}

func TestLicences(t *testing.T) {
	in := inputs(t, []string{"example.com/a@v1.0.0 AGPL-3.0-only", "example.com/b@v1.0.0 MIT"}, nil)
	r, err := Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != result.Fail || !slices.Equal(found(r), []string{"license-AGPL-3.0-only"}) {
		t.Errorf("%s %v, want one about AGPL-3.0-only", r.Verdict, found(r))
	}
	unknown := inputs(t, []string{"example.com/c@v1.0.0 sha256:a8c869"}, nil)
	if r, err := Run(t.Context(), unknown); err != nil || len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Message, "a licence text that is not recognised (SHA-256 a8c869)") {
		t.Errorf("a text without a name: %+v, %v", r, err)
	}
	in.Policy.Licenses.Allow = []string{"AGPL-3.0-only"}
	if r, err = Run(t.Context(), in); err != nil || r.Verdict != result.Pass {
		t.Errorf("allowed: %+v, %v", r, err)
	}
	in.Policy.Licenses.Deny = []string{"MIT"}
	if r, err = Run(t.Context(), in); err != nil || r.Verdict != result.Fail {
		t.Errorf("denied: %+v, %v", r, err)
	}
}

func TestSource(t *testing.T) {
	token := "ghp_" + strings.Repeat("a1B2", 9)
	files := map[string]string{
		"config/prod.env": "GITHUB_TOKEN=" + token + "\n",
		"Dockerfile":      "FROM debian:latest\nRUN apt-get install -y curl\n",
		"deploy/app.yaml": "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: a\n    image: a\n    securityContext:\n      privileged: true\n",
		"infra/main.tf":   "resource \"aws_s3_bucket\" \"b\" {\n  bucket = \"b\"\n  acl    = \"public-read\"\n}\n",
		"notes.yaml":      "kind: nothing\n",
	}
	in := inputs(t, []string{"github.com/google/uuid@v1.6.0"}, files)
	r, err := Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"config/prod.env:1", "Dockerfile:", "deploy/app.yaml:", "infra/main.tf:"} {
		if !slices.ContainsFunc(r.Findings, func(f result.Finding) bool { return strings.HasPrefix(f.Location, want) }) {
			t.Errorf("nothing was found at %s", want)
		}
	}
	for _, name := range []string{SARIFName, JSONName, TableName} {
		if data, err := os.ReadFile(filepath.Join(in.Out, name)); err != nil || strings.Contains(string(data), token) {
			t.Errorf("%s: %v, or it shows the secret", name, err)
		}
	}
	in.Policy.Skip = []string{"config/**", "Dockerfile", "deploy", "**/*.tf"}
	if r, err = Run(t.Context(), in); err != nil || r.Verdict != result.Pass || len(r.Findings) != 0 {
		t.Errorf("skipped: %+v, %v", r, err)
	}
}

// A source may name modules anywhere; a scanner that went there would be a way into the network it runs in.
func TestTerraformStaysInTheSource(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			asked.Add(1)
		}
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	in := inputs(t, []string{"github.com/google/uuid@v1.6.0"}, map[string]string{
		"main.tf": "module \"away\" {\n  source = \"" + server.URL + "/module.zip\"\n}\n" +
			"module \"listed\" {\n  source = \"" + server.Listener.Addr().String() + "/a/b/c\"\n}\n" +
			"module \"near\" {\n  source = \"./near\"\n}\n",
		"near/main.tf": "resource \"aws_s3_bucket\" \"b\" {\n  bucket = \"b\"\n  acl    = \"public-read\"\n}\n",
	})
	r, err := Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(r.Findings, func(f result.Finding) bool { return strings.HasPrefix(f.Location, "near/main.tf:") }) {
		t.Errorf("nothing was found in the module beside it: %+v", r.Findings)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the scanner called the server of a remote module %d times", n)
	}
}

func TestBadInput(t *testing.T) {
	for name, spoil := range map[string]func(Inputs) error{
		"no SBOM": func(in Inputs) error { return os.RemoveAll(in.SBOM) },
		"no packages": func(in Inputs) error {
			return os.WriteFile(filepath.Join(in.SBOM, "linux-amd64", "sbom.cdx.json"), []byte(cyclonedx(nil)), 0o600)
		},
		"broken SBOM": func(in Inputs) error {
			return os.WriteFile(filepath.Join(in.SBOM, "linux-amd64", "sbom.cdx.json"), []byte("{"), 0o600)
		},
		"no database": func(in Inputs) error { return os.RemoveAll(in.Database) },
		"no metadata": func(in Inputs) error { return os.Remove(filepath.Join(in.Database, vulndb.MetadataName)) },
		"broken file": func(in Inputs) error {
			return os.WriteFile(filepath.Join(in.Database, vulndb.DatabaseName), []byte("nonsense"), 0o600)
		},
		"empty bucket": func(in Inputs) error { return fixture.Build(in.Database, nil, now) },
	} {
		t.Run(name, func(t *testing.T) {
			in := inputs(t, []string{"github.com/google/uuid@v1.6.0"}, nil)
			if err := spoil(in); err != nil {
				t.Fatal(err)
			}
			if r, err := Run(t.Context(), in); !result.IsInput(err) {
				t.Errorf("result = %+v, error = %v; want an input error", r, err)
			}
		})
	}
}

func FuzzParseSBOM(f *testing.F) {
	f.Add([]byte(cyclonedx([]string{"github.com/google/uuid@v1.6.0"})))
	f.Fuzz(func(t *testing.T, data []byte) {
		target, err := parseSBOM(t.Context(), data)
		if err == nil && target == nil {
			t.Error("neither a target nor an error")
		}
	})
}

func FuzzParseKubernetes(f *testing.F) {
	f.Add("apiVersion: v1\nkind: Pod\nspec: &a\n  b: [1, null, {c: d}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		if !isKubernetes([]byte(text)) {
			return
		}
		_, _ = parseKubernetes(t.Context(), strings.NewReader(text), "a.yaml") // it must end, and not panic
	})
}
