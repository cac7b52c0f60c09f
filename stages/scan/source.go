package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing/fstest"

	"github.com/aquasecurity/trivy/pkg/fanal/secret"
	"github.com/aquasecurity/trivy/pkg/fanal/utils"
	"github.com/aquasecurity/trivy/pkg/iac/rego"
	iacscan "github.com/aquasecurity/trivy/pkg/iac/scan"
	"github.com/aquasecurity/trivy/pkg/iac/scanners/dockerfile"
	"github.com/aquasecurity/trivy/pkg/iac/scanners/generic"
	"github.com/aquasecurity/trivy/pkg/iac/scanners/options"
	"github.com/aquasecurity/trivy/pkg/iac/scanners/terraform"
	iactypes "github.com/aquasecurity/trivy/pkg/iac/types"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Files beyond these sizes are not read, in bytes.
const (
	maxSecretFile = 10 << 20
	maxManifest   = 4 << 20
)

// walk calls do for each regular file of the source that the policy does not skip. It follows no link.
func walk(source string, skip []string, do func(rel string, info fs.FileInfo) error) error {
	return filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if d.Name() == ".git" || d.Name() == "node_modules" || (rel != "." && skipped(rel, skip)) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || skipped(rel, skip) {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return do(rel, info)
	})
}

// scanSecrets runs Trivy's rules over the source. The secret itself is never part of a finding.
func scanSecrets(source string, skip []string) ([]finding, error) {
	scanner := secret.NewScanner(nil)
	var out []finding
	err := walk(source, skip, func(rel string, info fs.FileInfo) error {
		if info.Size() < 10 || info.Size() > maxSecretFile || scanner.IsSkipped(rel) || scanner.AllowPath(rel) {
			return nil
		}
		f, err := os.Open(filepath.Join(source, filepath.FromSlash(rel)))
		if err != nil {
			return err
		}
		defer f.Close()
		if binary, err := utils.IsBinary(f, info.Size()); err != nil || binary {
			return err
		}
		for _, s := range scanner.Scan(secret.ScanArgs{FilePath: rel, Content: f}).Findings {
			severity, err := result.ParseSeverity(s.Severity)
			if err != nil {
				severity = result.Unknown
			}
			out = append(out, finding{kind: secretKind, path: rel, Finding: result.Finding{ID: s.RuleID, Severity: severity,
				Message: s.Title + ": " + strings.TrimSpace(s.Match), Location: fmt.Sprintf("%s:%d", rel, s.StartLine),
				Fix: "revoke it, take it out of the history, and hand it in as a secret"}})
		}
		return nil
	})
	return out, err
}

// scanMisconfiguration runs Trivy's embedded checks over Dockerfiles, Kubernetes manifests and Terraform.
func scanMisconfiguration(ctx context.Context, source string, skip []string) ([]finding, error) {
	docker, kubernetes, tf := fstest.MapFS{}, fstest.MapFS{}, fstest.MapFS{}
	err := walk(source, skip, func(rel string, info fs.FileInfo) error {
		if info.Size() > maxManifest {
			return nil
		}
		var into fstest.MapFS
		base, ext := strings.ToLower(path.Base(rel)), strings.ToLower(path.Ext(rel))
		switch {
		case base == "dockerfile", base == "containerfile", ext == ".dockerfile", strings.HasPrefix(base, "dockerfile."):
			into = docker
		case ext == ".tf", strings.HasSuffix(base, ".tf.json"), ext == ".tfvars":
			into = tf
		case ext == ".yaml", ext == ".yml", ext == ".json":
			into = kubernetes
		default:
			return nil
		}
		data, err := os.ReadFile(filepath.Join(source, filepath.FromSlash(rel)))
		if err != nil {
			return err
		}
		into[rel] = &fstest.MapFile{Data: data}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name, f := range kubernetes {
		if !isKubernetes(f.Data) {
			delete(kubernetes, name)
		}
	}
	if len(docker)+len(kubernetes)+len(tf) == 0 {
		return nil, nil
	}
	opts := []options.ScannerOption{rego.WithEmbeddedPolicies(true), rego.WithEmbeddedLibraries(true)}
	shared := rego.NewScanner(opts...)
	if err := shared.LoadPolicies(nil); err != nil { // once, for all scanners
		return nil, fmt.Errorf("loading checks: %w", err)
	}
	opts = append(opts, rego.WithRegoScanner(shared))
	var out []finding
	for _, s := range []struct {
		files   fstest.MapFS
		scanner interface {
			ScanFS(context.Context, fs.FS, string) (iacscan.Results, error)
		}
	}{
		{docker, dockerfile.NewScanner(opts...)},
		{kubernetes, generic.NewScanner("Kubernetes", iactypes.SourceKubernetes, generic.ParseFunc[manifest](parseKubernetes), opts...)},
		{tf, terraform.New(append(opts, terraform.ScannerWithDownloadsAllowed(false))...)},
	} {
		if len(s.files) == 0 {
			continue
		}
		results, err := s.scanner.ScanFS(ctx, s.files, ".")
		if err != nil {
			return nil, err
		}
		for _, r := range results.GetFailed() {
			out = append(out, misconfigFinding(r))
		}
	}
	return out, nil
}

func misconfigFinding(r iacscan.Result) finding {
	rule := r.Rule()
	severity, err := result.ParseSeverity(string(rule.Severity))
	if err != nil {
		severity = result.Unknown
	}
	meta := r.Metadata()
	file := meta.Range().GetLocalFilename()
	f := finding{kind: misconfig, path: file, Finding: result.Finding{ID: rule.ID, Severity: severity, Message: r.Description(), Fix: rule.Resolution,
		Location: fmt.Sprintf("%s:%d", file, max(1, meta.Range().GetStartLine()))}}
	if f.Message == "" {
		f.Message = rule.Summary
	}
	if len(rule.Links) > 0 {
		f.URL = rule.Links[0]
	}
	return f
}

// isEOF tells the end of a YAML stream from an error in it.
func isEOF(err error) bool { return errors.Is(err, io.EOF) }
