package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Load reads the tree under root: all .go files but tests, whatever their build
// tags say. Nested modules, testdata and hidden folders are left out.
func Load(root string) (Tree, error) {
	var t Tree
	byDir := map[string]*Package{}
	top, err := os.ReadDir(root)
	if err != nil {
		return t, err
	}
	for _, e := range top {
		if e.IsDir() && e.Name() != "bin" {
			t.Top = append(t.Top, e.Name())
		}
	}
	err = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return skip(root, name, e)
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		dir := path.Dir(filepath.ToSlash(rel))
		if dir == "." {
			return fmt.Errorf("%s: Go files belong into a room", rel)
		}
		if byDir[dir] == nil {
			byDir[dir] = &Package{Dir: dir}
		}
		return byDir[dir].add(name, rel)
	})
	for _, p := range byDir {
		slices.Sort(p.Imports)
		p.Imports = slices.Compact(p.Imports)
		t.Packages = append(t.Packages, *p)
	}
	slices.SortFunc(t.Packages, func(a, b Package) int { return strings.Compare(a.Dir, b.Dir) })
	return t, err
}

func skip(root, name string, e fs.DirEntry) error {
	if name == root {
		return nil
	}
	if e.Name() == "testdata" || strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "_") {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

// add records a file's imports and init functions.
func (p *Package) add(name, rel string) error {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		p.Imports = append(p.Imports, path)
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			p.Inits = append(p.Inits, fmt.Sprintf("%s:%d", filepath.ToSlash(rel), fset.Position(fn.Pos()).Line))
		}
	}
	return nil
}
