package security

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/builtin"
	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/graph"
	"github.com/orlop/orlop/services/grpc"
)

// Somebody who can write the daemon's config, or the folder it is in, is root
// with the next start: a proxy plugin or a runtime program is all it takes.
func TestConfigOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives files away")
	}
	for name, spoil := range map[string]func(file string) error{
		"writable file":             func(f string) error { return os.Chmod(f, 0o666) },
		"writable folder":           func(f string) error { return os.Chmod(filepath.Dir(f), 0o777) },
		"writable folder above":     func(f string) error { return os.Chmod(filepath.Dir(filepath.Dir(f)), 0o777) },
		"file of another user":      func(f string) error { return os.Chown(f, 1000, 0) },
		"folder of another user":    func(f string) error { return os.Chown(filepath.Dir(f), 1000, 0) },
		"a link to somebody else":   func(f string) error { return linkAway(t, f, 1000, 0o755) },
		"a link to a common folder": func(f string) error { return linkAway(t, f, 0, 0o777) },
	} {
		file := filepath.Join(t.TempDir(), "a", "b", "config.toml")
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("oom_score = 0\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(file); err != nil {
			t.Fatalf("%s: an honest file: %v", name, err)
		}
		if err := spoil(file); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(file); err == nil || !strings.Contains(err.Error(), "every user can write") && !strings.Contains(err.Error(), "belongs to user") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// linkAway replaces a file by a link to another user's, or to one in such a folder.
func linkAway(t *testing.T, file string, uid int, folder os.FileMode) error {
	other := filepath.Join(t.TempDir(), "other.toml")
	return errors.Join(os.WriteFile(other, []byte("oom_score = 0\n"), 0o644), os.Chown(other, uid, 0),
		os.Chmod(filepath.Dir(other), folder), os.Remove(file), os.Symlink(other, file))
}

// A socket of another user in the place of a plugin's would be given the
// daemon's images, and ours must not stand where another can take its place.
func TestSocketsOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives files away")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "far.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chown(path, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	text := "root = '" + dir + "/root'\nstate = '" + dir + "/state'\n[proxy_plugins.far]\ntype = 'snapshot'\naddress = '" + path + "'\n"
	doc, err := config.Parse("config.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var reg plugins.Registry
	builtin.Register(&reg, &builtin.Daemon{})
	plan, err := reg.Plan(doc, config.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	sys, err := plan.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close(context.Background())
	g := sys.Graph()
	if n := g.Node("io.containerd.snapshotter.v1.far"); n.Status != graph.Failed || !strings.Contains(n.Why, "belongs to user 1000") {
		t.Errorf("the plugin is %s: %s", n.Status, n.Why)
	}
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if l, err := (grpc.Socket{Path: filepath.Join(open, "d.sock")}).Listen(); err == nil {
		l.Close()
		t.Error("a door stands in a folder that everybody can write")
	}
}
