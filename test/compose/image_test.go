package compose

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// recipe is what an image is made of, by paths of this machine, which are its own.
type recipe struct {
	name     string
	programs []string // with the libraries they need
	trees    []string // whole folders
	// folders have their owner's ID behind a colon, 0 if they have none.
	folders []string
}

const accounts = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www:/:/bin/sh\npostgres:x:70:70:postgres:/data:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"

var recipes = []recipe{
	{name: "web:1", programs: []string{"/usr/sbin/nginx"}, folders: []string{"/var/log/nginx", "/var/lib/nginx", "/run"}},
	{name: "api:1", programs: []string{"/usr/bin/python3"}, trees: []string{"/usr/lib/python3.*"}},
	{name: "cache:1", programs: []string{"/usr/bin/redis-server", "/usr/bin/redis-cli"}, folders: []string{"/data:65534"}},
	{name: "database:1", trees: []string{"/usr/share/postgresql/15", "/usr/share/postgresql-common", "/usr/share/zoneinfo"}, folders: []string{"/data:70"},
		programs: []string{"/usr/lib/postgresql/15/bin/postgres", "/usr/lib/postgresql/15/bin/initdb", "/usr/lib/postgresql/15/bin/psql", "/usr/lib/postgresql/15/bin/pg_isready",
			"/usr/lib/postgresql/15/lib/dict_snowball.so", "/usr/lib/postgresql/15/lib/plpgsql.so"}},
}

// left out of trees: tests and what nobody runs.
var leftOut = []string{"test", "tests", "idlelib", "lib2to3", "__pycache__", "dist-packages", "right", "posix"}

// write writes the image's tree as a tar.
func (r recipe) write(out io.Writer) error {
	w := &tree{tar: tar.NewWriter(out), done: map[string]bool{}}
	if err := w.program("/bin/busybox"); err != nil {
		return err
	}
	for _, name := range []string{"sh", "wget", "sleep", "cat", "echo", "nc", "date", "printf", "test", "touch"} {
		if err := w.put(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "/bin/busybox"}, ""); err != nil {
			return err
		}
	}
	files := map[string]string{"etc/passwd": accounts, "etc/group": "root:x:0:\nwww-data:x:33:\npostgres:x:70:\nnogroup:x:65534:\n"}
	for name, text := range files {
		if err := w.put(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}, text); err != nil {
			return err
		}
	}
	for _, f := range append(r.folders, "/tmp") {
		path, owner, _ := strings.Cut(f, ":")
		h := &tar.Header{Name: strings.TrimPrefix(path, "/") + "/", Typeflag: tar.TypeDir, Mode: 0o755}
		switch {
		case path == "/tmp":
			h.Mode = 0o1777
		case owner == "70":
			h.Uid, h.Gid, h.Mode = 70, 70, 0o700
		case owner == "65534":
			h.Uid, h.Gid = 65534, 65534
		}
		if err := w.put(h, ""); err != nil {
			return err
		}
	}
	for _, p := range r.programs {
		if err := w.program(p); err != nil {
			return err
		}
	}
	for _, t := range r.trees {
		if err := w.trees(t); err != nil {
			return err
		}
	}
	return w.tar.Close()
}

// tree writes files of this machine.
type tree struct {
	tar  *tar.Writer
	done map[string]bool
}

func (w *tree) put(h *tar.Header, text string) error {
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.WriteString(w.tar, text)
	return err
}

// program writes a program, or a library, with the libraries that it needs.
func (w *tree) program(path string) error {
	if err := w.file(path); err != nil {
		return err
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return nil // a static one
	}
	for line := range strings.Lines(string(out)) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "/") {
				if err := w.file(word); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// file writes what a path leads to.
func (w *tree) file(path string) error {
	if w.done[path] {
		return nil
	}
	w.done[path] = true
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.tar.WriteHeader(&tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: int64(info.Mode().Perm()), Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w.tar, f)
	return err
}

func (w *tree) trees(pattern string) error {
	roots, err := filepath.Glob(pattern)
	if err != nil || len(roots) == 0 {
		return errors.Join(err, &fs.PathError{Op: "find", Path: pattern, Err: fs.ErrNotExist})
	}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && slices.Contains(leftOut, d.Name()):
				return filepath.SkipDir
			case d.IsDir() || filepath.Ext(path) == ".a":
				return nil
			}
			if _, err := os.Stat(path); err != nil {
				return nil // a link to what isn't here
			}
			if filepath.Ext(path) == ".so" {
				return w.program(path)
			}
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
				return err
			}
			return w.file(path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// importImages makes all images.
func (r *rig) importImages(t *testing.T) {
	for _, recipe := range recipes {
		in, out := io.Pipe()
		go func() { out.CloseWithError(recipe.write(out)) }()
		cmd := r.command("docker", "import", "-c", `ENV PATH=/bin:/usr/bin:/usr/sbin:/usr/lib/postgresql/15/bin`, "-", recipe.name)
		cmd.Stdin = in
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("image %s: %v\n%s", recipe.name, err, text)
		}
	}
}
