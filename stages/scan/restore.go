package scan

import (
	"strings"

	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/types"
	debversion "github.com/knqyf263/go-deb-version"
	"github.com/package-url/packageurl-go"
)

// families are the distributions that Syft, which takes the ID of /etc/os-release, calls otherwise than Trivy. Without them, their packages
// would match no advisory.
var families = map[ftypes.OSType]ftypes.OSType{
	"almalinux":    ftypes.Alma,
	"amzn":         ftypes.Amazon,
	"mariner":      ftypes.CBLMariner,
	"ol":           ftypes.Oracle,
	"rhel":         ftypes.RedHat,
	"sl-micro":     ftypes.SLEMicro,
	"sle-micro":    ftypes.SLEMicro,
	"sle-micro-rt": ftypes.SLEMicro,
}

// restore takes from the package URLs what Trivy's decoder leaves there in Syft's documents: the distribution, the source package, by
// which most distributions' advisories are kept, and the module stream of an RPM.
func restore(t *types.ScanTarget) {
	for i := range t.Packages {
		p := &t.Packages[i]
		if p.Identifier.PURL == nil {
			continue
		}
		q := p.Identifier.PURL.Qualifiers.Map()
		if family, version, ok := strings.Cut(q["distro"], "-"); ok && !t.OS.Detected() {
			t.OS = ftypes.OS{Family: ftypes.OSType(family), Name: version}
		}
		if p.Modularitylabel == "" {
			p.Modularitylabel = q["rpmmod"]
		}
		restoreSource(p, q["upstream"])
	}
	if family, ok := families[t.OS.Family]; ok {
		t.OS.Family = family
	}
	t.OS.Normalize()
}

// restoreSource reads a package URL's qualifier "upstream": NAME or NAME@VERSION, and for an RPM the source package's file name.
func restoreSource(p *ftypes.Package, upstream string) {
	switch p.Identifier.PURL.Type {
	case packageurl.TypeRPM:
		file := strings.TrimSuffix(strings.TrimSuffix(upstream, ".nosrc.rpm"), ".src.rpm")
		rest, release, _ := cutLast(file)
		if name, version, ok := cutLast(rest); ok {
			p.SrcName, p.SrcVersion, p.SrcRelease, p.SrcEpoch = name, version, release, p.Epoch
		}
	default:
		name, version, versioned := strings.Cut(upstream, "@")
		if name == "" {
			return
		}
		p.SrcName = name
		if versioned && p.Identifier.PURL.Type == packageurl.TypeDebian {
			if v, err := debversion.NewVersion(version); err == nil {
				p.SrcEpoch, p.SrcVersion, p.SrcRelease = v.Epoch(), v.Version(), v.Revision()
			}
		}
	}
}

// cutLast cuts s around its last dash.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i <= 0 || i == len(s)-1 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
