package build

import (
	"archive/tar"
	"bytes"
	"io"
	"runtime"
	"testing"
	"time"
)

// contextOf is an archive of files.
func contextOf(t *testing.T, files ...string) io.ReadCloser {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o600, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return io.NopCloser(&out)
}

// The order in which clients send files doesn't matter for a Dockerfile from elsewhere.
func TestHideIgnored(t *testing.T) {
	const foreign = ".dockerfile.0123"
	in, err := hideIgnored(contextOf(t, "a", "1", foreign, "FROM x", ".dockerignore", ".dockerignore\n"+foreign), foreign, t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if string(in.dockerfile) != "FROM x" {
		t.Errorf("Dockerfile: %q", in.dockerfile)
	}
	var names []string
	for all := tar.NewReader(in); ; {
		h, err := all.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if len(names) != 1 || names[0] != "a" {
		t.Errorf("left are %q", names)
	}
	if _, err := hideIgnored(contextOf(t, foreign, "FROM x"), foreign, t.TempDir(), 100); err == nil {
		t.Error("more than the bound is kept")
	}
}

// A context that the solver never asks for, as when the Dockerfile is wrong, leaves nothing.
func TestUnreadUpload(t *testing.T) {
	const foreign = ".dockerfile.0123"
	before := runtime.NumGoroutine()
	in, err := hideIgnored(contextOf(t, "a", "1", foreign, "WRONG", ".dockerignore", foreign), foreign, t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	u := &upload{ReadCloser: weigh(in.ReadCloser, 1<<20, 10)}
	if runtime.NumGoroutine() == before {
		t.Fatal("nothing is under way")
	}
	u.drop()
	for until := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d goroutines are left of %d", runtime.NumGoroutine()-before, before)
		}
	}
	if _, err := u.Read(make([]byte, 1)); err == nil {
		t.Error("it can be read still")
	}
}
