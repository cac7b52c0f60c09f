package scan

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aquasecurity/trivy-db/pkg/db"
	dbTypes "github.com/aquasecurity/trivy-db/pkg/types"
	osDetector "github.com/aquasecurity/trivy/pkg/detector/ospkg"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/licensing"
	"github.com/aquasecurity/trivy/pkg/licensing/expression"
	"github.com/aquasecurity/trivy/pkg/sbom"
	"github.com/aquasecurity/trivy/pkg/scan/langpkg"
	"github.com/aquasecurity/trivy/pkg/scan/ospkg"
	"github.com/aquasecurity/trivy/pkg/types"
	"github.com/aquasecurity/trivy/pkg/vulnerability"
	bolt "go.etcd.io/bbolt"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// maxSBOM bounds an SBOM in bytes.
const maxSBOM = 256 << 20

// shipped is what the SBOMs of all platforms say.
type shipped struct {
	packages        []ftypes.Package
	vulnerabilities []finding
	inputs          []result.Resource
}

// scanShipped matches every platform's CycloneDX document against the database. What platforms share is reported once.
func scanShipped(ctx context.Context, dir, database string) (*shipped, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*", "sbom.cdx.json"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, result.Inputf("there is no */sbom.cdx.json in %s", dir)
	}
	if err := checkDatabase(database); err != nil {
		return nil, err
	}
	if err := db.Init(database, db.WithBoltOptions(&bolt.Options{ReadOnly: true})); err != nil {
		return nil, result.Inputf("opening the vulnerability database: %w", err)
	}
	defer db.Close()
	s := &shipped{}
	seen := map[string]bool{}
	for _, name := range names {
		target, digest, err := readSBOM(ctx, name)
		if err != nil {
			return nil, result.Inputf("SBOM %s: %w", name, err)
		}
		platform := filepath.Base(filepath.Dir(name))
		s.inputs = append(s.inputs, result.Resource{Name: "SBOM of " + platform, Digest: map[string]string{"sha256": digest}})
		packages := slices.Clone(target.Packages)
		for _, a := range target.Applications {
			packages = append(packages, a.Packages...)
		}
		if len(packages) == 0 {
			// A Go program lists at least itself and the standard library.
			return nil, result.Inputf("SBOM %s lists no package: there is nothing to judge", name)
		}
		for _, p := range packages {
			if id := "package " + p.Name + "@" + p.Version; !seen[id] {
				seen[id] = true
				s.packages = append(s.packages, p)
			}
		}
		found, err := detect(ctx, target)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if id := f.ID + f.Location; !seen[id] {
				seen[id] = true
				s.vulnerabilities = append(s.vulnerabilities, f)
			}
		}
	}
	return s, nil
}

// checkDatabase refuses a file that Trivy's detectors would panic on, or find nothing in.
func checkDatabase(dir string) error {
	d, err := bolt.Open(filepath.Join(dir, "trivy.db"), 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		return result.Inputf("opening the vulnerability database: %w", err)
	}
	defer d.Close()
	return d.View(func(tx *bolt.Tx) error {
		for _, name := range []string{"vulnerability", "data-source"} {
			if tx.Bucket([]byte(name)) == nil {
				return result.Inputf("the vulnerability database is damaged: it has no %q", name)
			}
		}
		return nil
	})
}

func readSBOM(ctx context.Context, name string) (*types.ScanTarget, string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, "", err
	}
	if info.Size() > maxSBOM {
		return nil, "", fmt.Errorf("it has %d bytes, and %d are allowed", info.Size(), maxSBOM)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, "", err
	}
	target, err := parseSBOM(ctx, data)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(data)
	return target, hex.EncodeToString(sum[:]), nil
}

func parseSBOM(ctx context.Context, data []byte) (*types.ScanTarget, error) {
	format, err := sbom.DetectFormat(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	bom, err := sbom.Decode(ctx, bytes.NewReader(data), format)
	if err != nil {
		return nil, err
	}
	t := &types.ScanTarget{Applications: bom.Applications}
	if bom.Metadata.OS != nil {
		t.OS = *bom.Metadata.OS
	}
	for _, p := range bom.Packages {
		t.Packages = append(t.Packages, p.Packages...)
	}
	restore(t)
	return t, nil
}

// detect runs Trivy's detectors.
func detect(ctx context.Context, t *types.ScanTarget) ([]finding, error) {
	opts := types.ScanOptions{PkgTypes: types.PkgTypes, PkgRelationships: ftypes.Relationships,
		Scanners: types.Scanners{types.VulnerabilityScanner}, VulnSeveritySources: []dbTypes.SourceID{"auto"}}
	var results types.Results
	var notJudged []finding
	r, _, err := ospkg.NewScanner().Scan(ctx, *t, opts)
	switch {
	case errors.Is(err, osDetector.ErrUnsupportedOS), err == nil && !t.OS.Detected():
		notJudged = unsupported(t)
	case err != nil:
		return nil, err
	default:
		results = append(results, r)
	}
	lang, err := langpkg.NewScanner().Scan(ctx, *t, opts)
	if err != nil {
		return nil, err
	}
	results = append(results, lang...)
	client := vulnerability.NewClient(db.Config{})
	out := notJudged
	for i := range results {
		client.FillInfo(results[i].Vulnerabilities, opts.VulnSeveritySources)
		for _, v := range results[i].Vulnerabilities {
			out = append(out, vulnerabilityFinding(v))
		}
	}
	slices.SortFunc(out, func(a, b finding) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Location, b.Location))
	})
	return out, nil
}

// unsupported says that a distribution's packages were not judged, because Trivy knows no advisories for it. An image without a package
// manager's database has no such packages.
func unsupported(t *types.ScanTarget) []finding {
	if len(t.Packages) == 0 {
		return nil
	}
	name := "an unknown distribution"
	if t.OS.Detected() {
		name = strings.TrimSpace(string(t.OS.Family) + " " + t.OS.Name)
	}
	return []finding{{kind: unjudged, pkg: string(t.OS.Family), Finding: result.Finding{
		ID: "unsupported-distribution", Severity: result.Unknown, Location: "pkg:generic/" + strings.ReplaceAll(name, " ", "-"),
		Message: fmt.Sprintf("there are no advisories for %s: nothing is known about its %d packages", name, len(t.Packages)),
		Fix:     "use a base image of a supported distribution, or add an exception for unsupported-distribution with a reason"}}}
}

func vulnerabilityFinding(v types.DetectedVulnerability) finding {
	severity, err := result.ParseSeverity(v.Severity) //nolint:staticcheck // what Trivy itself prints
	if err != nil {
		severity = result.Unknown
	}
	f := finding{kind: vulnKind, pkg: v.PkgName, fixable: v.FixedVersion != "", Finding: result.Finding{
		ID: v.VulnerabilityID, Severity: severity, Message: v.PkgName + " " + v.InstalledVersion + ": " + v.Title, URL: v.PrimaryURL,
		Location: v.PkgName + "@" + v.InstalledVersion,
	}}
	if v.PkgIdentifier.PURL != nil {
		f.Location = v.PkgIdentifier.PURL.ToString()
	}
	if f.fixable {
		f.Fix = "update " + v.PkgName + " to " + v.FixedVersion
	}
	return f
}

// categories are Trivy's.
var categories = map[ftypes.LicenseCategory][]string{
	ftypes.CategoryForbidden: expression.ForbiddenLicenses, ftypes.CategoryRestricted: expression.RestrictedLicenses,
	ftypes.CategoryReciprocal: expression.ReciprocalLicenses, ftypes.CategoryNotice: expression.NoticeLicenses,
	ftypes.CategoryPermissive: expression.PermissiveLicenses, ftypes.CategoryUnencumbered: expression.UnencumberedLicenses,
}

// licences are the findings about what each package may be used for. A licence that everybody may use is none.
func licences(packages []ftypes.Package, policy config.Licenses) []finding {
	scanner := licensing.NewScanner(categories)
	var out []finding
	for _, p := range packages {
		for _, l := range p.Licenses {
			category, severity := scanner.Scan(l)
			s, err := result.ParseSeverity(severity)
			if err != nil {
				s = result.Unknown
			}
			denied := slices.Contains(policy.Deny, l)
			if denied {
				s = result.Critical
			}
			if !denied && s.Rank() <= result.Low.Rank() && category != ftypes.CategoryUnknown {
				continue
			}
			f := finding{kind: licence, pkg: p.Name, allowed: slices.Contains(policy.Allow, l) && !denied, Finding: result.Finding{
				ID: "license-" + l, Severity: s, Message: fmt.Sprintf("%s %s has the licence %s (%s)", p.Name, p.Version, l, category), Location: p.Name + "@" + p.Version}}
			if hash, ok := strings.CutPrefix(l, "sha256:"); ok { // a text that Syft found no name for
				f.Message = fmt.Sprintf("%s %s has a licence text that is not recognised (SHA-256 %s)", p.Name, p.Version, hash)
			}
			if p.Identifier.PURL != nil {
				f.Location = p.Identifier.PURL.ToString()
			}
			out = append(out, f)
		}
	}
	return out
}
