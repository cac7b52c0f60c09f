package image

import (
	"archive/zip"
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	certFile = "/etc/ssl/certs/ca-certificates.crt"
	zoneDir  = "/usr/share/zoneinfo"
	nonroot  = 65532
)

// Bounds on a zoneinfo.zip; Go's has some 600 files of a few hundred bytes.
const (
	maxZones    = 5000
	maxZone     = 1 << 20
	maxAllZones = 32 << 20
)

// baseFiles are those that a static program may expect of its system.
func baseFiles(uid, gid int, zoneinfo string) ([]file, error) {
	passwd := "root:x:0:0:root:/root:/sbin/nologin\n" + fmt.Sprintf("nonroot:x:%d:%d:nonroot:/home/nonroot:/sbin/nologin\n", nonroot, nonroot)
	group := "root:x:0:\n" + fmt.Sprintf("nonroot:x:%d:\n", nonroot)
	files := []file{
		dir("/etc"), dir("/home"), dir("/usr"), dir("/usr/local"), dir("/usr/local/bin"), dir("/usr/share"),
		{name: "/tmp", mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{name: "/root", mode: fs.ModeDir | 0o700},
		{name: "/home/nonroot", mode: fs.ModeDir | 0o700, uid: nonroot, gid: nonroot},
	}
	if uid != nonroot {
		passwd += fmt.Sprintf("app:x:%d:%d:app:/home/app:/sbin/nologin\n", uid, gid)
		files = append(files, file{name: "/home/app", mode: fs.ModeDir | 0o700, uid: uid, gid: gid})
	}
	if gid != nonroot && gid != 0 {
		group += fmt.Sprintf("app:x:%d:\n", gid)
	}
	files = append(files,
		text("/etc/passwd", passwd), text("/etc/group", group), text("/etc/nsswitch.conf", "hosts: files dns\n"),
		dir("/etc/ssl"), dir("/etc/ssl/certs"), file{name: certFile, mode: 0o644, data: certificates()},
	)
	if zoneinfo == "" {
		return files, nil
	}
	zones, err := zoneFiles(zoneinfo)
	if err != nil {
		return nil, result.Inputf("time zones %s: %w", zoneinfo, err)
	}
	return append(files, zones...), nil
}

// certificates is Mozilla's list as one PEM file. Roots that Mozilla trusts only for certificates from before a date are left out: a PEM
// file cannot say that, and a program would trust them without limit.
func certificates() []byte {
	var b bytes.Buffer
	for r := range bundle.Roots() {
		if r.Constraint == nil {
			b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate}))
		}
	}
	return b.Bytes()
}

// zoneFiles unpacks Go's zoneinfo.zip in bounded memory.
func zoneFiles(name string) ([]file, error) {
	z, err := zip.OpenReader(name)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	if len(z.File) > maxZones {
		return nil, fmt.Errorf("more than %d entries", maxZones)
	}
	files, dirs, seen, total := []file{dir(zoneDir)}, map[string]bool{".": true}, map[string]bool{}, 0
	for _, zf := range z.File {
		n := zf.Name
		if strings.HasSuffix(n, "/") {
			continue
		}
		if !filepath.IsLocal(n) || strings.Contains(n, `\`) || path.Clean(n) != n || !zf.Mode().IsRegular() {
			return nil, fmt.Errorf("entry %q is not a file inside the archive", n)
		}
		data, err := readZone(zf)
		if err != nil {
			return nil, fmt.Errorf("entry %s: %w", n, err)
		}
		if total += len(data); total > maxAllZones {
			return nil, fmt.Errorf("more than %d bytes", maxAllZones)
		}
		if seen[n] {
			return nil, fmt.Errorf("entry %q is there twice", n)
		}
		seen[n] = true
		for d := path.Dir(n); !dirs[d]; d = path.Dir(d) {
			dirs[d] = true
			files = append(files, dir(path.Join(zoneDir, d)))
		}
		files = append(files, file{name: path.Join(zoneDir, n), mode: 0o644, data: data})
	}
	if len(files) == 1 {
		return nil, errors.New("no entries")
	}
	for n := range seen {
		if dirs[n] {
			return nil, fmt.Errorf("entry %q is a file and a directory", n)
		}
	}
	return files, nil
}

func readZone(zf *zip.File) ([]byte, error) {
	r, err := zf.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxZone+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxZone {
		return nil, fmt.Errorf("larger than %d bytes", maxZone)
	}
	return b, nil
}
