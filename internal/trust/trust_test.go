package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestFolder(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "not", "there", "yet")} {
		if err := Folder(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	above := filepath.Dir(dir)
	if err := os.Chmod(above, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{above, dir, filepath.Join(dir, "new")} {
		if err := Folder(path); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "chmod o-w "+above) {
			t.Errorf("%s below a folder that all can write: %v", path, err)
		}
	}
	if err := os.Chmod(above, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := Folder(dir); err != nil {
		t.Errorf("below a sticky folder: %v", err)
	}
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives files away")
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := File(file, info); err != nil {
		t.Errorf("own file: %v", err)
	}
	if err := os.Chown(file, 1234, 0); err != nil {
		t.Fatal(err)
	}
	info, _ = os.Stat(file)
	if err := File(file, info); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "user 1234") {
		t.Errorf("another's file: %v", err)
	}
	if err := os.Chown(filepath.Dir(file), 1234, 0); err != nil {
		t.Fatal(err)
	}
	if err := Folder(filepath.Dir(file)); !errdefs.IsPermissionDenied(err) {
		t.Errorf("another's folder: %v", err)
	}
}
