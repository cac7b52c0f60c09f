package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// target is what an ELF header says of an architecture.
type target struct {
	machine elf.Machine
	class   elf.Class
	data    elf.Data
}

// targets by GOARCH.
func targetOf(arch string) (target, bool) {
	t, ok := map[string]target{
		"386":      {elf.EM_386, elf.ELFCLASS32, elf.ELFDATA2LSB},
		"amd64":    {elf.EM_X86_64, elf.ELFCLASS64, elf.ELFDATA2LSB},
		"arm":      {elf.EM_ARM, elf.ELFCLASS32, elf.ELFDATA2LSB},
		"arm64":    {elf.EM_AARCH64, elf.ELFCLASS64, elf.ELFDATA2LSB},
		"loong64":  {elf.EM_LOONGARCH, elf.ELFCLASS64, elf.ELFDATA2LSB},
		"mips":     {elf.EM_MIPS, elf.ELFCLASS32, elf.ELFDATA2MSB},
		"mipsle":   {elf.EM_MIPS, elf.ELFCLASS32, elf.ELFDATA2LSB},
		"mips64":   {elf.EM_MIPS, elf.ELFCLASS64, elf.ELFDATA2MSB},
		"mips64le": {elf.EM_MIPS, elf.ELFCLASS64, elf.ELFDATA2LSB},
		"ppc64le":  {elf.EM_PPC64, elf.ELFCLASS64, elf.ELFDATA2LSB},
		"riscv64":  {elf.EM_RISCV, elf.ELFCLASS64, elf.ELFDATA2LSB},
		"s390x":    {elf.EM_S390, elf.ELFCLASS64, elf.ELFDATA2MSB},
	}[arch]
	return t, ok
}

// binaryFiles are the entries for one platform's programs.
func binaryFiles(bin *os.Root, p config.Platform, names []string) ([]file, error) {
	files := []file{dir("/usr"), dir("/usr/local"), dir(binDir)}
	for _, n := range names {
		src := path.Join(p.Dir(), n)
		fi, err := bin.Lstat(src)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, result.Inputf("binary %s for %s is missing: build it for every platform of the plan", n, p)
		}
		if err != nil {
			return nil, result.Inputf("binary %s for %s: %w", n, p, err)
		}
		if !fi.Mode().IsRegular() {
			return nil, result.Inputf("binary %s for %s is not a regular file", n, p)
		}
		if err := checkBinary(bin, src, p); err != nil {
			return nil, result.Inputf("binary %s for %s: %w", n, p, err)
		}
		files = append(files, file{name: path.Join(binDir, n), mode: 0o755, size: fi.Size(), open: func() (io.ReadCloser, error) { return bin.Open(src) }})
	}
	return files, nil
}

func checkBinary(bin *os.Root, name string, p config.Platform) error {
	f, err := bin.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return CheckELF(f, p.Arch)
}

// CheckELF reports why r is not a static ELF program for the architecture, which is one of Go's (GOARCH). It would not start in an image
// that holds no libraries and no dynamic loader.
func CheckELF(r io.ReaderAt, arch string) error {
	want, ok := targetOf(arch)
	if !ok {
		return fmt.Errorf("architecture %q is unknown", arch)
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return fmt.Errorf("not an ELF program: %w", err)
	}
	defer f.Close()
	if f.Machine != want.machine || f.Class != want.class || f.Data != want.data {
		return fmt.Errorf("built for %s (%s, %s), not for %s", f.Machine, f.Class, f.Data, arch)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return fmt.Errorf("an ELF %s, not a program", f.Type)
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return errors.New("dynamically linked (it asks for an interpreter): build it with CGO_ENABLED=0")
	}
	// A program without loadable parts is a shared library's or a debug file's shell.
	if !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_LOAD }) {
		return errors.New("has no loadable segment: it is no program")
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("reading what it links: %w", err)
	}
	if len(libs) > 0 {
		return fmt.Errorf("needs the shared library %s: build it with CGO_ENABLED=0", libs[0])
	}
	return nil
}
