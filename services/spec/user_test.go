package spec

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestUsers(t *testing.T) {
	for _, c := range []struct{ image, user, extra, want string }{
		{"", "", "", "0:0 [0 4]"},
		{"web", "", "", "33:34 [34 4]"},
		{"web", "root", "", "0:0 [0 4]"},
		{"", "web:video", "", "33:44 [44]"},
		{"", "33", "", "33:34 [34 4]"},
		{"", "1000", "", "1000:0 [0]"},
		{"", "1000:1001", "", "1000:1001 [1001]"},
		{"", "1000:1001", "video,5", "1000:1001 [1001 5 44]"},
		{"", "2147483647:2147483647", "", "2147483647:2147483647 [2147483647]"},
		{"", "nobody", "", "no such user"},
		{"", "web:nogroup", "", "no such group"},
		{"2147483648", "", "", "is not between"},
		{"4294967296", "", "", "is not between"},
		{"4294967296:0", "", "", "is not between"},
		{"0:4294967296", "", "", "is not between"},
		{"-1", "", "", "is not between"},
		{"+1", "", "", "1:0 [0]"},
		{"99999999999999999999", "", "", "is not between"},
		{"", "0", "4294967296", "is not between"},
	} {
		o := Options{ID: "x", Image: imagespec.ImageConfig{User: c.image, Cmd: []string{"x"}}, User: c.user, Rootfs: rootfs}
		if c.extra != "" {
			o.ExtraGroups = strings.Split(c.extra, ",")
		}
		got := ""
		if s, err := Generate(o); err != nil {
			got = err.Error()
		} else {
			u := s.Process.User
			got = fmt.Sprintf("%d:%d %v", u.UID, u.GID, u.AdditionalGids)
		}
		if got != c.want && !(strings.Contains(c.want, " ") && !strings.Contains(c.want, "[") && strings.Contains(got, c.want)) {
			t.Errorf("image user %q, user %q, groups %q: %s, want %s", c.image, c.user, c.extra, got, c.want)
		}
	}
}

func TestNamesNeedARootfs(t *testing.T) {
	for user, ok := range map[string]bool{"": true, "5": true, "5:6": true, "web": false, "5:web": false} {
		_, err := Generate(Options{ID: "x", Args: []string{"x"}, User: user})
		if (err == nil) != ok {
			t.Errorf("user %q without a root file system: %v", user, err)
		}
	}
}

func TestHostileAccounts(t *testing.T) {
	huge := fstest.MapFS{"etc/passwd": {Data: make([]byte, maxAccounts+1)}}
	wrong := fstest.MapFS{
		"etc/passwd": {Data: []byte("evil:x:4294967296:4294967296::/:\ngrp:x:1:4294967296::/:\nmember:x:1:1::/:\nminus:x:-5:0::/:\n")},
		"etc/group":  {Data: []byte("evil:x:4294967296:member\n")},
	}
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", dir+"/etc/passwd"); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, c := range []struct {
		name, user string
		fs         fs.FS
	}{
		{"huge file", "0", huge},
		{"uid above the limit", "evil", wrong},
		{"gid above the limit", "grp", wrong},
		{"supplementary gid above the limit", "member", wrong},
		{"negative uid", "minus", wrong},
		{"symlink to the host", "root", root.FS()},
	} {
		if s, err := Generate(Options{ID: "x", Args: []string{"x"}, User: c.user, Rootfs: c.fs}); err == nil {
			t.Errorf("%s: taken, as %+v", c.name, s.Process.User)
		}
	}
}
