package build

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// stringVariables returns those of names that the package in dir declares as string variables which the linker can set: without a value,
// or with a literal. A package that cannot be read has none: it is the compiler that shall complain.
func stringVariables(dir string, names ...string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, e.Name()), nil, parser.SkipObjectResolution)
		if err != nil || f.Name.Name != "main" {
			continue
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				found = append(found, stringSpecs(g)...)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(found, n) })
}

func stringSpecs(g *ast.GenDecl) []string {
	var found []string
	for _, s := range g.Specs {
		v, ok := s.(*ast.ValueSpec)
		if !ok {
			continue
		}
		id, typed := v.Type.(*ast.Ident)
		for i, name := range v.Names {
			isString := typed && id.Name == "string" || v.Type == nil
			if len(v.Values) > 0 {
				lit, ok := v.Values[min(i, len(v.Values)-1)].(*ast.BasicLit)
				isString = isString && ok && lit.Kind == token.STRING
			} else {
				isString = isString && typed
			}
			if isString {
				found = append(found, name.Name)
			}
		}
	}
	return found
}
