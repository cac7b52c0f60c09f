package test

import (
	"encoding/xml"
	"fmt"
	"path"
	"sort"
	"strings"

	"golang.org/x/tools/cover"
)

// The Cobertura elements that CI systems read.
//
// Source: https://github.com/cobertura/cobertura/blob/master/cobertura/src/site/htdocs/xml/coverage-04.dtd
type (
	coverage struct {
		XMLName      xml.Name       `xml:"coverage"`
		LineRate     string         `xml:"line-rate,attr"`
		BranchRate   string         `xml:"branch-rate,attr"`
		LinesCovered int            `xml:"lines-covered,attr"`
		LinesValid   int            `xml:"lines-valid,attr"`
		Version      string         `xml:"version,attr"`
		Timestamp    int64          `xml:"timestamp,attr"`
		Sources      []string       `xml:"sources>source"`
		Packages     []coverPackage `xml:"packages>package"`
	}
	coverPackage struct {
		Name     string       `xml:"name,attr"`
		LineRate string       `xml:"line-rate,attr"`
		Classes  []coverClass `xml:"classes>class"`
	}
	coverClass struct {
		Name     string      `xml:"name,attr"`
		Filename string      `xml:"filename,attr"`
		LineRate string      `xml:"line-rate,attr"`
		Lines    []coverLine `xml:"lines>line"`
	}
	coverLine struct {
		Number int `xml:"number,attr"`
		Hits   int `xml:"hits,attr"`
	}
)

// Coverage is the share of statements that the tests ran, in percent.
func Coverage(profiles []*cover.Profile) float64 {
	var all, hit int
	for _, p := range profiles {
		for _, b := range p.Blocks {
			all += b.NumStmt
			if b.Count > 0 {
				hit += b.NumStmt
			}
		}
	}
	if all == 0 {
		return 0
	}
	return 100 * float64(hit) / float64(all)
}

// Cobertura turns coverage profiles into Cobertura XML. File names become relative to the source: module's packages lie in folder.
func Cobertura(profiles []*cover.Profile, module, folder string, epoch int64) ([]byte, error) {
	packages := map[string]*coverPackage{}
	counts := map[string][2]int{} // by package: covered, valid
	out := coverage{BranchRate: "0", Version: "1", Timestamp: epoch * 1000, Sources: []string{"."}}
	for _, p := range profiles {
		name := path.Dir(p.FileName)
		pkg := packages[name]
		if pkg == nil {
			pkg = &coverPackage{Name: name}
			packages[name] = pkg
		}
		c := coverClass{Name: path.Base(p.FileName), Filename: path.Join(folder, strings.TrimPrefix(strings.TrimPrefix(p.FileName, module), "/"))}
		hits := map[int]int{}
		for _, b := range p.Blocks {
			for n := b.StartLine; n <= b.EndLine && n-b.StartLine < 1<<16; n++ {
				hits[n] = max(hits[n], b.Count)
			}
		}
		covered := 0
		for n, h := range hits {
			c.Lines = append(c.Lines, coverLine{n, h})
			if h > 0 {
				covered++
			}
		}
		sort.Slice(c.Lines, func(i, j int) bool { return c.Lines[i].Number < c.Lines[j].Number })
		c.LineRate = rate(covered, len(hits))
		pkg.Classes = append(pkg.Classes, c)
		n := counts[name]
		counts[name] = [2]int{n[0] + covered, n[1] + len(hits)}
		out.LinesCovered += covered
		out.LinesValid += len(hits)
	}
	for name, pkg := range packages {
		pkg.LineRate = rate(counts[name][0], counts[name][1])
		out.Packages = append(out.Packages, *pkg)
	}
	sort.Slice(out.Packages, func(i, j int) bool { return out.Packages[i].Name < out.Packages[j].Name })
	out.LineRate = rate(out.LinesCovered, out.LinesValid)
	b, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(b, '\n')...), nil
}

func rate(part, whole int) string {
	if whole == 0 {
		return "0"
	}
	return fmt.Sprintf("%.4f", float64(part)/float64(whole))
}
