package client

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/orlop/orlop/services/spec"
)

func TestRemember(t *testing.T) {
	old := cacheDir
	cacheDir = filepath.Join(t.TempDir(), "cache")
	t.Cleanup(func() { cacheDir = old })
	c := &Client{Address: "/a", Namespace: "n"}
	k := &known{Chain: "sha256:1", Snapshotter: "native", HasAccounts: true, Passwd: []byte("root:x:0:0::/:\n")}
	c.remember("sha256:a", k)
	if got := c.recall("sha256:a"); got == nil || got.Chain != k.Chain || string(got.Passwd) != string(k.Passwd) {
		t.Fatalf("recalled %+v", got)
	}
	for _, other := range []*Client{{Address: "/b", Namespace: "n"}, {Address: "/a", Namespace: "m"}} {
		if got := other.recall("sha256:a"); got != nil {
			t.Errorf("another daemon or namespace recalls %+v", got)
		}
	}
	c.forget("sha256:a")
	if got := c.recall("sha256:a"); got != nil {
		t.Errorf("recalled after forget: %+v", got)
	}
	c.remember("sha256:b", &known{Chain: "x", Passwd: make([]byte, maxCachedFile+1)})
	if got := c.recall("sha256:b"); got != nil {
		t.Error("a large file was remembered")
	}
	for i := range maxCached + 10 {
		c.remember(fmt.Sprint(i), k)
	}
	if have, _ := os.ReadDir(cacheDir); len(have) > maxCached {
		t.Errorf("%d images are remembered", len(have))
	}
	// What others could have written is not believed.
	c.remember("sha256:a", k)
	if err := os.Chmod(cacheDir, 0o777); err != nil {
		t.Fatal(err)
	}
	if got := c.recall("sha256:a"); got != nil {
		t.Error("a folder that everybody can write to is believed")
	}
	if err := os.Chmod(cacheDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.cacheFile("sha256:a"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.recall("sha256:a"); got != nil {
		t.Errorf("a torn file gives %+v", got)
	}
}

func TestAccounts(t *testing.T) {
	root := fstest.MapFS{"etc/passwd": {Data: []byte("web:x:33:34::/:\n")}}
	a, err := readAccounts(root)
	if err != nil || !a.small() {
		t.Fatal(a, err)
	}
	u, err := spec.User("web", nil, a)
	if err != nil || u.UID != 33 || u.GID != 34 {
		t.Errorf("user %+v, %v", u, err)
	}
	if _, err := spec.User("nobody", nil, a); err == nil {
		t.Error("found a user that isn't there")
	}
	if a, err := readAccounts(fstest.MapFS{"etc/passwd": {Mode: fs.ModeDir}}); err == nil {
		t.Errorf("a folder was read: %v", a)
	}
	if a, _ := readAccounts(fstest.MapFS{"etc/group": {Data: make([]byte, maxCachedFile+1)}}); a.small() {
		t.Error("a large file counts as small")
	}
}
