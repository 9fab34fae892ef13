package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/orlop/orlop/services/spec"
)

func TestKeptAccountsAreBounded(t *testing.T) {
	var k keptAccounts
	for i := range maxKept + 1 {
		k.put(fmt.Sprint(i), userFiles{})
		k.get("0") // stays, as it is used
	}
	if _, ok := k.get("0"); !ok {
		t.Error("what was used last is gone")
	}
	if _, ok := k.get("1"); ok || len(k.of) != maxKept {
		t.Errorf("%d are kept, the oldest among them: %v", len(k.of), ok)
	}
}

func TestReadAccounts(t *testing.T) {
	for name, c := range map[string]struct {
		make func(dir string) error
		ok   bool
	}{
		"files":  {func(dir string) error { return nil }, true},
		"no etc": {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "etc")) }, true},
		"etc is a link": {func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, "etc"), filepath.Join(dir, "x")), os.Symlink("x", filepath.Join(dir, "etc")))
		}, false},
		"file is a link": {func(dir string) error { return os.Symlink("/etc/group", filepath.Join(dir, "etc/group")) }, false},
		"too large": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "etc/group"), make([]byte, maxKeptFile+1), 0o644)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("app:x:7:8::/home/app:/bin/sh\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			a, ok := readAccounts(root)
			if ok != c.ok {
				t.Fatalf("kept: %v, want %v", ok, c.ok)
			}
			if name != "files" {
				return
			}
			if u, err := spec.User("app", nil, a); err != nil || u.UID != 7 || u.GID != 8 {
				t.Errorf("user app is %+v, %v", u, err)
			}
		})
	}
}
