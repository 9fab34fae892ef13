package build

import (
	"archive/tar"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// toolchains builds a program in each of four languages, by stages of their own, into
// one image.
const toolchains = `FROM tools AS c
COPY <<'end' main.c
#include <stdio.h>
int main(void) { puts("C"); return 0; }
end
RUN gcc -O1 -static -o /made main.c

FROM tools AS go
WORKDIR /src
COPY <<'end' main.go
package main
import "os"
func main() { os.Stdout.WriteString("Go\n") }
end
RUN --mount=type=cache,target=/root/.cache CGO_ENABLED=0 GO111MODULE=off GOTOOLCHAIN=local /go/bin/go build -o /made .

FROM tools AS node
COPY <<'end' main.js
require("fs").writeFileSync("/made", "#!/bin/sh\necho " + ["No", "de"].join("") + "\n", {mode: 0o755})
end
RUN node main.js

FROM tools AS python
COPY <<'end' main.py
import sys, os, zipfile
with open("/made", "w") as f: f.write("#!/bin/sh\necho %s\n" % "".join(reversed("nohtyP")))
os.chmod("/made", 0o755)
end
RUN python3 -m py_compile main.py && python3 main.py

FROM box
COPY --from=c /made /c
COPY --from=go /made /go
COPY --from=node /made /node
COPY --from=python /made /python
CMD /c && /go && /node && /python
`

// TestToolchains compiles with what people compile with: packages of this machine and
// its Go, as an image.
func TestToolchains(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(writeTools(pw)) }()
	load := exec.Command("docker", "import", "-", "tools")
	load.Env, load.Stdin = r.env, pr
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.write("tools/Dockerfile", toolchains)
	dir := r.path("tools")
	r.buildx("-t", "made:buildx", dir)
	r.run(r.buildctl, "build", "--frontend", "dockerfile.v0", "--local", "context="+dir, "--local", "dockerfile="+dir, "--output", "type=image,name=docker.io/library/made:buildctl")
	r.run("env", "DOCKER_BUILDKIT=0", "docker", "build", "-t", "made:classic", dir)
	r.run(r.bin+"/orlop", "build", "-t", "made:orlop", dir)
	for _, door := range []string{"buildx", "buildctl", "classic", "orlop"} {
		if got := r.docker("run", "--rm", "--network", "none", "made:"+door); got != "C\nGo\nNode\nPython" {
			t.Errorf("%s: %q", door, got)
		}
	}
}

// writeTools writes a tree with the packages that the stages need, and Go.
func writeTools(out io.Writer) error {
	w := tar.NewWriter(out)
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: dir, Linkname: "usr/" + dir, Mode: 0o777}); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return err
	}
	files, err := packaged("bash", "coreutils", "gcc", "libc6-dev", "python3-minimal", "nodejs")
	if err != nil {
		return err
	}
	for _, path := range files {
		if err := addTool(w, path, strings.TrimPrefix(path, "/")); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/bin/sh", Linkname: "bash", Mode: 0o777}); err != nil {
		return err
	}
	if err := addGo(w); err != nil {
		return err
	}
	return w.Close()
}

// packaged are the files of packages and of all that they depend on, by their real
// folders, without what only people read.
func packaged(names ...string) ([]string, error) {
	args := []string{"depends", "--recurse", "--installed", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"}
	deps, err := exec.Command("apt-cache", append(args, names...)...).Output()
	if err != nil {
		return nil, err
	}
	all := slices.Clone(names)
	for line := range strings.Lines(string(deps)) {
		if name := strings.TrimSpace(line); name == strings.TrimRight(line, "\n") && !strings.HasPrefix(name, "<") && exec.Command("dpkg", "-s", name).Run() == nil {
			all = append(all, name)
		}
	}
	list, err := exec.Command("dpkg", append([]string{"-L"}, all...)...).Output()
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		path := strings.TrimSpace(line)
		if !filepath.IsAbs(path) || slices.ContainsFunc([]string{"doc", "man", "locale", "info", "lintian", "zoneinfo", "perl"}, func(s string) bool { return strings.HasPrefix(path, "/usr/share/"+s) }) {
			continue
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			continue
		}
		found[filepath.Join(dir, filepath.Base(path))] = true
	}
	out := make([]string, 0, len(found))
	for path := range found {
		out = append(out, path)
	}
	slices.Sort(out)
	return out, nil
}

// addTool adds a file or a link of this machine; folders come with what is in them.
func addTool(w *tar.Writer, path, name string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return nil // of a package, and removed since
	}
	link := ""
	switch {
	case st.Mode()&fs.ModeSymlink != 0:
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	case !st.Mode().IsRegular():
		return nil
	}
	h, err := tar.FileInfoHeader(st, link)
	if err != nil {
		return err
	}
	h.Name = name
	if err := w.WriteHeader(h); err != nil || link != "" {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// addGo adds the compiler and the library that this test was made with.
func addGo(w *tar.Writer) error {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	root := strings.TrimSpace(string(out))
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			skip := slices.Contains([]string{"api", "doc", "misc", "test", "src/cmd"}, rel) || d.Name() == "testdata" || strings.HasPrefix(rel, "pkg/tool/") && d.Name() != "linux_"+runtime.GOARCH
			if skip {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		return addTool(w, path, "go/"+rel)
	})
}
