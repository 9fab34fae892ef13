// Package confdoc collects the doc comments of config structs, so that programs
// can show them without having their sources.
//
// [Extract] reads sources when code is generated; [Format] writes what it found
// as text to be embedded, which [Parse] reads when the program runs. All are
// pure but for reading files, and safe for concurrent use.
package confdoc

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
	"strings"
)

// Docs holds doc comments by package path, type and field, joined by dots; those
// of a type itself by package path and type.
type Docs map[string]string

// Of returns the comment of a field, or of the type if field is "".
func (d Docs) Of(pkg, typ, field string) string {
	if field == "" {
		return d[pkg+"."+typ]
	}
	return d[pkg+"."+typ+"."+field]
}

// Extract reads the config structs of a module: those with a toml tag in one of
// their fields, and those named Config. Tests and nested
// modules are left out.
func Extract(root, module string) (Docs, error) {
	docs := Docs{}
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return skip(root, name, e)
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".pb.go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		return docs.file(name, path.Join(module, filepath.ToSlash(rel)))
	})
	return docs, err
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

// file adds the comments of one source file.
func (d Docs) file(name, pkg string) error {
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, decl := range f.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			t := spec.(*ast.TypeSpec)
			st, ok := t.Type.(*ast.StructType)
			if !ok || !isConfig(t.Name.Name, st) {
				continue
			}
			comment := t.Doc
			if comment == nil {
				comment = g.Doc
			}
			d.add(pkg+"."+t.Name.Name, comment)
			for _, field := range st.Fields.List {
				for _, n := range field.Names {
					d.add(pkg+"."+t.Name.Name+"."+n.Name, field.Doc)
				}
			}
		}
	}
	return nil
}

func isConfig(name string, st *ast.StructType) bool {
	if name == "Config" {
		return true
	}
	return slices.ContainsFunc(st.Fields.List, func(f *ast.Field) bool {
		return f.Tag != nil && strings.Contains(f.Tag.Value, `toml:"`)
	})
}

func (d Docs) add(key string, comment *ast.CommentGroup) {
	if text := strings.TrimSpace(comment.Text()); text != "" {
		d[key] = text
	}
}

// Format writes the comments in order, each after a line with its key.
func Format(d Docs) string {
	keys := make([]string, 0, len(d))
	for k := range d {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s\n", k)
		for line := range strings.SplitSeq(d[k], "\n") {
			fmt.Fprintf(&b, "\t%s\n", line)
		}
	}
	return b.String()
}

// Parse reads what Format has written.
func Parse(text string) Docs {
	d := Docs{}
	key := ""
	for line := range strings.SplitSeq(text, "\n") {
		rest, indented := strings.CutPrefix(line, "\t")
		switch {
		case line == "":
		case !indented:
			key = line
		case d[key] == "":
			d[key] = rest
		default:
			d[key] += "\n" + rest
		}
	}
	return d
}
