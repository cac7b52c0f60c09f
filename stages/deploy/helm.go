package deploy

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime/metrics"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	// Helm 4.2 is made for the Kubernetes libraries 0.36 that everything else here uses; 4.3 and 3.22 want 0.37. Its engine alone, without
	// action: that would bring storage drivers, registry clients and plugins.
	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/ignore"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	// chartFile makes a folder a Helm chart.
	chartFile = "Chart.yaml"
	// hookAnnotation makes Helm run an object at some moment, instead of installing it.
	hookAnnotation = "helm.sh/hook"
	// renderTime and renderMemory bound what templates may take: they are programs, and may loop.
	renderTime   = 30 * time.Second
	renderMemory = 512 << 20
)

// Release is what a chart's templates know about the deployment. Nothing is asked of the cluster, and lookup finds nothing.
type Release struct {
	// Name is the release's: the application's.
	Name      string
	Namespace string
	// Values are files for a chart; what a later one says wins.
	Values []string
	// KubeVersion is the cluster's, such as v1.35.2; empty is that of the Kubernetes libraries, as with helm template.
	KubeVersion string
	// APIVersions are what the cluster serves beyond Kubernetes' own, such as monitoring.coreos.com/v1.
	APIVersions []string
	// Now is what templates get for the present time: the same inputs make the same bytes.
	Now time.Time
}

// render makes the chart's objects as helm template does, its CustomResourceDefinitions first.
func (r Release) render(ctx context.Context, root *os.Root) ([]*unstructured.Unstructured, error) {
	if !dnsLabel.MatchString(r.Name) {
		return nil, result.Inputf("the name %q cannot be a release's: use a-z, 0-9 and '-', and start with a letter: set name in slipway.yaml", r.Name)
	}
	left := maxManifests
	c, err := readChart(root, &left)
	if err != nil {
		return nil, err
	}
	given, err := r.values(&left)
	if err != nil {
		return nil, err
	}
	top, err := r.top(c, given)
	if err != nil {
		return nil, err
	}
	e := engine.Engine{CustomTemplateFuncs: r.functions()}
	rendered, err := bounded(ctx, renderTime, func() (map[string]string, error) { return e.Render(c, top) })
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, crd := range slices.SortedFunc(slices.Values(c.CRDObjects()), func(a, b chart.CRD) int { return strings.Compare(a.Filename, b.Filename) }) {
		objects, err := Parse(crd.Filename, crd.File.Data)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	left = maxManifests
	for _, file := range slices.Sorted(maps.Keys(rendered)) {
		if left -= len(rendered[file]); left < 0 {
			return nil, result.Inputf("the chart's templates make more than %d bytes", maxManifests)
		}
		if strings.HasSuffix(file, "NOTES.txt") {
			continue // for whoever installs it by hand
		}
		objects, err := Parse(file, []byte(rendered[file]))
		if err != nil {
			return nil, err
		}
		if objects, err = withoutTests(file, objects); err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	if len(all) == 0 {
		return nil, result.Inputf("the chart %s makes no object with these values", c.Name())
	}
	return all, unique(all)
}

// readChart loads a chart whose dependencies are all there.
func readChart(root *os.Root, left *int) (*chart.Chart, error) {
	files, err := chartFiles(root, left)
	if err != nil {
		return nil, err
	}
	if files, err = unpacked(files, left); err != nil {
		return nil, err
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, result.Inputf("reading the chart: %w", err)
	}
	if v := c.Metadata.APIVersion; v != chart.APIVersionV1 && v != chart.APIVersionV2 {
		return nil, result.Inputf("the chart %s has the apiVersion %s: v1 and v2 are known", c.Name(), v)
	}
	if c.Metadata.Type == "library" {
		return nil, result.Inputf("the chart %s is a library, which makes no objects: deploy a chart that uses it", c.Name())
	}
	return c, vendored(c)
}

// chartFiles reads what .helmignore leaves.
func chartFiles(root *os.Root, left *int) ([]*archive.BufferedFile, error) {
	rules := ignore.Empty()
	text, err := readBounded(root, ignore.HelmIgnore, left)
	if err == nil {
		if rules, err = ignore.Parse(bytes.NewReader(text)); err != nil {
			return nil, result.Inputf("reading %s: %w", ignore.HelmIgnore, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	rules.AddDefaults()
	var files []*archive.BufferedFile
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return result.Inputf("reading the chart: %w", err)
		}
		info, err := d.Info()
		if err != nil {
			return result.Inputf("reading the chart: %w", err)
		}
		switch {
		case rules.Ignore(name, info) && d.IsDir():
			return fs.SkipDir
		case rules.Ignore(name, info) || d.IsDir():
			return nil
		}
		data, err := readBounded(root, name, left)
		if err != nil {
			return err
		}
		files = append(files, &archive.BufferedFile{Name: name, Data: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))})
		return nil
	})
	return files, err
}

var packedChart = regexp.MustCompile(`^(charts/[^/]+/)*charts/[^/_.][^/]*\.tgz$`)

// unpacked puts the files of packed dependencies in their places: what they hold counts like everything else.
func unpacked(files []*archive.BufferedFile, left *int) ([]*archive.BufferedFile, error) {
	var all []*archive.BufferedFile
	for _, f := range files {
		if !packedChart.MatchString(f.Name) {
			all = append(all, f)
			continue
		}
		unzipped, err := gzip.NewReader(bytes.NewReader(f.Data))
		if err != nil {
			return nil, result.Inputf("%s: %w", f.Name, err)
		}
		size, err := io.Copy(io.Discard, io.LimitReader(unzipped, int64(*left)+1))
		if err != nil {
			return nil, result.Inputf("%s: %w", f.Name, err)
		}
		if *left -= int(size); *left < 0 {
			return nil, tooLarge()
		}
		inner, err := archive.LoadArchiveFiles(bytes.NewReader(f.Data))
		if err != nil {
			return nil, result.Inputf("%s: %w", f.Name, err)
		}
		if inner, err = unpacked(inner, left); err != nil {
			return nil, err
		}
		for _, i := range inner {
			i.Name = f.Name + ".d/" + i.Name // Helm looks only for a folder, whatever its name
			all = append(all, i)
		}
	}
	return all, nil
}

// vendored asks for every dependency: nothing is fetched here, and one that is missing would simply not be deployed.
func vendored(c *chart.Chart) error {
	for _, d := range c.Metadata.Dependencies {
		if !slices.ContainsFunc(c.Dependencies(), func(have *chart.Chart) bool {
			return have.Name() == d.Name && chartutil.IsCompatibleRange(d.Version, have.Metadata.Version)
		}) {
			return result.Inputf("the chart %s needs %s %s, which is not in its charts folder: run helm dependency build, and deploy what it puts there",
				c.ChartFullPath(), d.Name, d.Version)
		}
	}
	for _, d := range c.Dependencies() {
		if err := vendored(d); err != nil {
			return err
		}
	}
	return nil
}

// values merges the files of values.
func (r Release) values(left *int) (map[string]any, error) {
	all := map[string]any{}
	for _, file := range r.Values {
		root, err := os.OpenRoot(filepath.Dir(file))
		if err != nil {
			return nil, result.Inputf("reading values: %w", err)
		}
		data, err := readBounded(root, filepath.Base(file), left)
		root.Close()
		if err != nil {
			return nil, err
		}
		values, err := loader.LoadValues(bytes.NewReader(data))
		if err != nil {
			return nil, result.Inputf("%s: %w", filepath.Base(file), err)
		}
		all = loader.MergeMaps(all, values)
	}
	return all, nil
}

// top is what templates see: Values, Release, Chart and Capabilities.
func (r Release) top(c *chart.Chart, given map[string]any) (common.Values, error) {
	able := *common.DefaultCapabilities
	if r.KubeVersion != "" {
		v, err := common.ParseKubeVersion(r.KubeVersion)
		if err != nil {
			return nil, result.Inputf("the cluster's version: %w", err)
		}
		able.KubeVersion = *v
	}
	able.APIVersions = slices.Concat(able.APIVersions, r.APIVersions)
	if want := c.Metadata.KubeVersion; want != "" && !chartutil.IsCompatibleRange(want, able.KubeVersion.String()) {
		return nil, result.Inputf("the chart %s is for Kubernetes %s, not %s", c.Name(), want, able.KubeVersion.Version)
	}
	if err := chartutil.ProcessDependencies(c, given); err != nil {
		return nil, result.Inputf("the chart's dependencies: %w", err)
	}
	// Every deployment is rendered as the first one: what it makes must not hang on what ran before.
	top, err := commonutil.ToRenderValuesWithSchemaValidation(c, given,
		common.ReleaseOptions{Name: r.Name, Namespace: r.Namespace, Revision: 1, IsInstall: true}, &able, true)
	if err != nil {
		return nil, result.Inputf("the chart's values: %w", err)
	}
	values, err := top.Table("Values")
	if err != nil {
		return nil, result.Inputf("the chart's values: %w", err)
	}
	return top, checkValues(c, values)
}

// checkValues holds values against the schemas of the chart and of its dependencies. Helm's own check would fetch what a schema refers to.
func checkValues(c *chart.Chart, values common.Values) error {
	if c.Schema != nil {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.Schema))
		if err != nil {
			return result.Inputf("the values.schema.json of the chart %s: %w", c.ChartFullPath(), err)
		}
		const url = "file:///values.schema.json"
		compiler := jsonschema.NewCompiler()
		compiler.UseLoader(offline{})
		if err := compiler.AddResource(url, doc); err != nil {
			return result.Inputf("the values.schema.json of the chart %s: %w", c.ChartFullPath(), err)
		}
		schema, err := compiler.Compile(url)
		if err != nil {
			return result.Inputf("the values.schema.json of the chart %s: %w", c.ChartFullPath(), err)
		}
		if err := schema.Validate(values.AsMap()); err != nil {
			_, what, _ := strings.Cut(err.Error(), "\n") // the first line names the made-up address
			return result.Inputf("the values do not fit the chart %s:\n%s", c.ChartFullPath(), what)
		}
	}
	for _, d := range c.Dependencies() {
		sub, err := values.Table(d.Name())
		if err != nil {
			continue // it has none
		}
		if err := checkValues(d, sub); err != nil {
			return err
		}
	}
	return nil
}

// offline loads no schema: neither from the network nor from a file that is not the chart's.
type offline struct{}

func (offline) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s, and nothing is fetched: write that into the schema itself", url)
}

// withoutTests leaves out Helm's tests, and refuses its other hooks: nobody would run them, and as plain objects they would run always.
func withoutTests(file string, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var kept []*unstructured.Unstructured
	for _, o := range objects {
		events, hook := o.GetAnnotations()[hookAnnotation]
		if !hook {
			kept = append(kept, o)
			continue
		}
		for event := range strings.SplitSeq(events, ",") {
			if !slices.Contains([]string{"test", "test-success", "test-failure"}, strings.ToLower(strings.TrimSpace(event))) {
				return nil, result.Inputf("%s: %s is a Helm hook (%s), which only Helm would run: keep it out of the chart's objects, by a value for example, "+
					"and make it one of slipway.yaml's deploy.hooks instead", file, Name(o), events)
			}
		}
	}
	return kept, nil
}

// unsteady are the template functions that answer something else each time.
var unsteady = []string{"randAlphaNum", "randAlpha", "randAscii", "randNumeric", "randBytes", "randInt", "shuffle", "uuidv4", "ago", "bcrypt",
	"htpasswd", "encryptAES", "genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert",
	"genSignedCertWithKey"}

// functions replaces those of Helm's template functions that would give other bytes for the same inputs.
func (r Release) functions() template.FuncMap {
	sorted := func(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
	all := template.FuncMap{
		"now": func() time.Time { return r.Now },
		// In the order of Go's maps they would come out differently each time.
		"keys": func(dicts ...map[string]any) []string {
			var all []string
			for _, d := range dicts {
				all = append(all, sorted(d)...)
			}
			return all
		},
		"values": func(dict map[string]any) []any {
			var all []any
			for _, k := range sorted(dict) {
				all = append(all, dict[k])
			}
			return all
		},
	}
	for _, name := range unsteady {
		all[name] = func(...any) (string, error) {
			return "", fmt.Errorf("%s makes something else each time, and would replace what runs at every deployment: give it as a value instead", name)
		}
	}
	return all
}

// bounded gives up on templates that take too long or too much memory. Nothing can end them from outside: they go on until the program ends,
// which is soon after this error, and one that asks for more memory at once than there is ends the program itself.
func bounded(ctx context.Context, most time.Duration, render func() (map[string]string, error)) (map[string]string, error) {
	type answer struct {
		files map[string]string
		err   error
	}
	done := make(chan answer, 1)
	before := inUse()
	go func() {
		files, err := render()
		done <- answer{files, err}
	}()
	timeout, look := time.After(most), time.NewTicker(10*time.Millisecond)
	defer look.Stop()
	for {
		select {
		case a := <-done:
			if a.err != nil {
				return nil, result.Inputf("the chart's templates: %w", a.err)
			}
			return a.files, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timeout:
			return nil, result.Inputf("the chart's templates have run for %s: one of them may loop", most)
		case <-look.C:
			if inUse() > before+renderMemory {
				return nil, result.Inputf("the chart's templates take more than %d bytes of memory: one of them may loop", renderMemory)
			}
		}
	}
}

// inUse is what the program's objects and stacks take now.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}
