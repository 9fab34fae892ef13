// Package config reads the daemon's config file and tells where in it every
// value stands, so that all mistakes can be reported at once, each with file,
// line and column.
//
// A [Document] is the merged tree of a file and its imports, migrated to
// [Version]. [Decode] fills a struct from a part of it; [Write] is the other
// direction: structs with their doc comments become a commented TOML file.
//
// Values are read once and never changed; a Document is safe for concurrent
// use. Nothing is written to disk, so a crash leaves nothing behind.
package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/orlop/orlop/internal/trust"
)

const (
	// Version is the version of config files that is written; older ones down
	// to MinVersion are migrated while they are read.
	Version = 4
	// MinVersion is the oldest version that is still read.
	MinVersion = 2
	// maxFile bounds a config file. The largest known in the field, a full dump
	// of every plugin, has 30 KiB.
	maxFile = 1 << 20
	// maxFiles bounds the number of files that imports may reach.
	maxFiles = 1000
)

// Document is a config: one file with all it imports.
type Document struct {
	// Root is the merged tree.
	Root *Node
	// Files are the paths read, in the order they were merged.
	Files []string
	// FileVersion is the version the first file was written in.
	FileVersion int
	// Warnings are remarks that don't keep the daemon from starting.
	Warnings Problems
}

// Empty returns a document without any values.
func Empty() *Document {
	return &Document{Root: NewTable(Pos{}), FileVersion: Version}
}

// Parse reads a document from memory. The name stands for the file in
// positions; imports are not followed.
func Parse(name string, data []byte) (*Document, error) {
	d := Empty()
	d.FileVersion = 0
	root, err := d.add(name, data)
	if err != nil {
		return nil, err
	}
	d.mergeFile(root)
	return d, nil
}

// Load reads the file at path and, breadth first, what it imports: later files
// override earlier ones. A file that was read already is not read again, so
// imports may form a cycle. A file that other users can write or replace is
// refused.
func Load(path string) (*Document, error) {
	d := Empty()
	d.FileVersion = 0
	var problems Problems
	seen := map[string]bool{}
	pending := []string{path}
	for len(pending) > 0 && len(seen) < maxFiles {
		path, pending = pending[0], pending[1:]
		if key := realPath(path); seen[key] {
			continue
		} else {
			seen[key] = true
		}
		root, err := d.read(path)
		if err != nil {
			problems = append(problems, asProblems(path, err)...)
			continue
		}
		more, err := resolveImports(path, root.Get("imports"))
		problems = append(problems, asProblems(path, err)...)
		pending = append(pending, more...)
		d.mergeFile(root)
	}
	if len(pending) > 0 {
		problems.Add(Pos{File: path}, "imports reach more than %d files", maxFiles)
	}
	return d, problems.Err()
}

func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return path
}

func asProblems(path string, err error) Problems {
	if err == nil {
		return nil
	}
	if ps, ok := err.(Problems); ok {
		return ps
	}
	return Problems{{Pos: Pos{File: path}, Message: err.Error()}}
}

// read opens, checks and parses one file.
func (d *Document) read(path string) (*Node, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unwrapPath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unwrapPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file")
	}
	if err := trust.File(path, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unwrapPath(err)
	}
	return d.add(path, data)
}

// unwrapPath drops the operation and path, which the position already names.
func unwrapPath(err error) error {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err
	}
	return err
}

// add parses one file and migrates it to [Version].
func (d *Document) add(name string, data []byte) (*Node, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	root, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	version, err := d.version(root)
	if err != nil {
		return nil, err
	}
	if d.FileVersion == 0 {
		d.FileVersion = version
	}
	d.Files = append(d.Files, name)
	if version < Version {
		d.Warnings = append(d.Warnings, migrate(root, version)...)
	}
	moveServers(root)
	return root, nil
}

// version reads a file's version; without one it is that of the first file, or
// the newest.
func (d *Document) version(root *Node) (int, error) {
	n := root.Get("version")
	if n == nil {
		if d.FileVersion != 0 {
			return d.FileVersion, nil
		}
		return Version, nil
	}
	v, ok := n.Value.(int64)
	switch {
	case !ok:
		return 0, Problems{{Pos: n.Pos, Message: "version: want an integer, have " + n.kind()}}
	case v < MinVersion:
		return 0, Problems{{Pos: n.Pos, Message: fmt.Sprintf("version %d is too old: versions %d to %d can be read", v, MinVersion, Version)}}
	case v > Version:
		return 0, Problems{{Pos: n.Pos, Message: fmt.Sprintf("version %d is newer than this program: versions %d to %d can be read", v, MinVersion, Version)}}
	}
	return int(v), nil
}

// replaced are the top-level tables whose entries an import replaces whole, as
// containerd does; all others are merged key by key.
var replaced = []string{"proxy_plugins", "stream_processors", "timeouts"}

func (d *Document) mergeFile(root *Node) {
	for _, name := range replaced {
		from, to := root.Get(name), d.Root.Get(name)
		if from == nil || to == nil || from.Table == nil || to.Table == nil {
			continue
		}
		for key := range from.Table {
			delete(to.Table, key)
		}
	}
	d.Root.merge(root)
	d.Root.Pos = root.Pos
}

// resolveImports expands the patterns of a file's imports, relative to it.
func resolveImports(file string, list *Node) ([]string, error) {
	if list == nil {
		return nil, nil
	}
	var out []string
	var problems Problems
	if list.List == nil {
		problems.Add(list.Pos, "imports: want a list of strings, have %s", list.kind())
	}
	for _, n := range list.List {
		pattern, ok := n.Value.(string)
		if !ok {
			problems.Add(n.Pos, "imports: want a string, have %s", n.kind())
			continue
		}
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(file), pattern)
		}
		found, err := expand(pattern)
		if err != nil {
			problems.Add(n.Pos, "imports: %v", err)
		}
		out = append(out, found...)
	}
	return out, problems.Err()
}

// expand returns the files a pattern matches, in order; a path without
// wildcards stands for itself and must exist.
func expand(pattern string) ([]string, error) {
	if !strings.ContainsAny(pattern, "*?[") {
		return []string{pattern}, nil
	}
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	slices.Sort(found)
	return found, nil
}
