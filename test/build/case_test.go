package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// scene is a case: a folder that is built, how, and what comes of it.
//
// The comment of its file has a line for each of: arg K=V, label K=V, target NAME,
// file NAME, platform LIST, secret ID=VALUE, host NAME:ADDRESS, context NAME=FOLDER,
// fails TEXT (the build is refused with these words), only NAME… (doors that can do it), and of what a txtar can't hold: symlink PATH TARGET,
// mode PATH OCTAL, big PATH BYTES, folder PATH, archive PATH.
// The file "want" tells what is
// in the image, a fact a line: see [image.check].
type scene struct {
	name  string
	dir   string
	lines map[string][]string
	want  []string
}

// readScene writes a case's folder. In its files REGISTRY, SERVER and COMMIT stand for
// the rig's.
func (r *rig) readScene(t *testing.T, file string) *scene {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{name: strings.TrimSuffix(filepath.Base(file), ".txtar"), lines: map[string][]string{}}
	s.dir = r.path("scene", s.name)
	words := strings.NewReplacer("@REGISTRY@", r.registry, "@SERVER@", r.served.url, "@COMMIT@", r.served.commit)
	for _, f := range a.Files {
		text := words.Replace(string(f.Data))
		if f.Name == "want" {
			s.want = strings.Split(strings.TrimSpace(text), "\n")
			continue
		}
		r.write(filepath.Join("scene", s.name, f.Name), text)
	}
	for line := range strings.Lines(words.Replace(string(a.Comment))) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key != "" && key != "#" {
			s.lines[key] = append(s.lines[key], value)
		}
	}
	if err := s.furnish(); err != nil {
		t.Fatal(err)
	}
	return s
}

// furnish makes what a txtar can't hold.
func (s *scene) furnish() error {
	for _, key := range []string{"folder", "archive", "big", "symlink", "mode"} {
		for _, line := range s.lines[key] {
			f := strings.Fields(line)
			if err := furnish(key, filepath.Join(s.dir, f[0]), f[1:]); err != nil {
				return fmt.Errorf("%s: %s %s: %w", s.name, key, line, err)
			}
		}
	}
	return nil
}

func furnish(key, path string, f []string) error {
	switch key {
	case "folder":
		return os.MkdirAll(path, 0o755)
	case "archive":
		return writeArchive(path)
	case "symlink":
		return os.Symlink(f[0], path)
	case "mode":
		mode, err := strconv.ParseUint(f[0], 8, 32)
		if err != nil {
			return err
		}
		return unix.Chmod(path, uint32(mode))
	}
	size, err := strconv.Atoi(f[0])
	if err != nil {
		return err
	}
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	return os.WriteFile(path, data, 0o644)
}

// may tells whether a door can do the case.
func (s *scene) may(door string) bool {
	only, limited := s.lines["only"]
	if limited {
		return strings.Contains(" "+only[0]+" ", " "+door+" ")
	}
	return true
}

// netBind is the attribute of a program that may listen on low ports.
const netBind = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// writeArchive writes a file, with an owner and an attribute, and a link to it.
func writeArchive(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	t := tar.NewWriter(f)
	return errors.Join(
		t.WriteHeader(&tar.Header{Name: "in", Mode: 0o640, Uid: 3, Gid: 4, Size: 3, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": netBind}}),
		func() error { _, err := t.Write([]byte("in\n")); return err }(),
		t.WriteHeader(&tar.Header{Name: "l", Linkname: "in", Mode: 0o777, Typeflag: tar.TypeSymlink}),
		t.Close(), f.Close())
}
