package mounts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/orlop/orlop/core/mount"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOverlayOfMoreThanAPage(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	var layers []string
	for i := range 300 {
		l := filepath.Join(dir, fmt.Sprintf("layer-%d", i))
		write(t, filepath.Join(l, fmt.Sprintf("f%d", i)), "x")
		layers = append(layers, l)
	}
	m := mount.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + strings.Join(layers, ":")}}
	if len(m.Options[0]) < 4096 {
		t.Fatal("the list is too short to test anything")
	}
	err := WithTemp(context.Background(), []mount.Mount{m}, func(root string) error {
		ents, err := os.ReadDir(root)
		if err == nil && len(ents) != 300 {
			t.Errorf("%d files, want 300", len(ents))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAllAndUnmount(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "src/sub/f"), "hello")
	write(t, filepath.Join(dir, "other/g"), "there")
	target := filepath.Join(dir, "target")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	list := []mount.Mount{
		{Type: "bind", Source: filepath.Join(dir, "src"), Options: []string{"rbind", "ro"}},
		{Type: "bind", Source: filepath.Join(dir, "other"), Target: "sub"},
	}
	if err := All(list, target); err != nil {
		t.Fatal(err)
	}
	defer UnmountAll(target, true)
	if _, err := os.Stat(filepath.Join(target, "sub/g")); err != nil {
		t.Error("the second mount is not at its target:", err)
	}
	if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o644); err == nil {
		t.Error("a read-only bind can be written")
	}
	if is, _ := IsMountPoint(target); !is {
		t.Error("IsMountPoint says no")
	}
	if err := UnmountAll(filepath.Join(target, "sub"), false); err != nil {
		t.Error(err)
	}
	if err := UnmountAll(target, false); err != nil {
		t.Error(err)
	}
	if is, _ := IsMountPoint(target); is {
		t.Error("still mounted")
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	list := []mount.Mount{
		{Type: "tmpfs", Source: "tmpfs"},
		{Type: "bind", Source: filepath.Join(dir, "missing")},
	}
	if err := All(list, dir); err == nil {
		t.Fatal("no error for a missing source")
	}
	if is, _ := IsMountPoint(dir); is {
		t.Error("the first mount is still there")
	}
}

func TestErrorsSayWhy(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		m    mount.Mount
		want string
	}{
		{mount.Mount{Type: "nosuchfs", Source: "x"}, "no file system"},
		{mount.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/nonexistent/a:/nonexistent/b"}}, "/nonexistent/a"},
		{mount.Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"colour=red"}}, "colour"},
	} {
		err := WithTemp(context.Background(), []mount.Mount{c.m}, func(string) error { return nil })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v doesn't speak of %q", c.m.Type, err, c.want)
		}
	}
}

func TestWithTempLeavesNoMount(t *testing.T) {
	needRoot(t)
	before, _ := os.ReadFile("/proc/self/mountinfo")
	wanted := errors.New("from fn")
	for _, list := range [][]mount.Mount{nil, {{Type: "tmpfs", Source: "t"}}, {{Type: "tmpfs", Source: "t"}, {Type: "tmpfs", Source: "t"}}} {
		err := WithTemp(context.Background(), list, func(root string) error {
			if err := os.WriteFile(filepath.Join(root, "f"), nil, 0o600); err != nil {
				t.Error(err)
			}
			return os.Remove(filepath.Join(root, "f"))
		})
		if err != nil {
			t.Error(err)
		}
		if err := WithTemp(context.Background(), list, func(string) error { return wanted }); !errors.Is(err, wanted) {
			t.Errorf("error %v", err)
		}
	}
	after, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Count(string(after), " - tmpfs t ") != strings.Count(string(before), " - tmpfs t ") {
		t.Error("a mount is left behind")
	}
}

func TestSplitLayers(t *testing.T) {
	for _, c := range []struct {
		in          string
		lower, data []string
	}{
		{"a:b", []string{"a", "b"}, nil},
		{`a\:b:c\,d`, []string{"a:b", "c,d"}, nil},
		{"a::d1", []string{"a"}, []string{"d1"}},
	} {
		lower, data := splitLayers(c.in)
		if !reflect.DeepEqual(lower, c.lower) || !reflect.DeepEqual(data, c.data) {
			t.Errorf("%q: %q %q", c.in, lower, data)
		}
	}
	if l, _ := splitLayers(EscapeLayer(`we:ird,\x`)); len(l) != 1 || l[0] != `we:ird,\x` {
		t.Errorf("escaping: %q", l)
	}
}

func TestReadOnlyOfOverlay(t *testing.T) {
	got := ReadOnly([]mount.Mount{{Type: "overlay", Options: []string{"lowerdir=b:a", "upperdir=u", "workdir=w", "index=off"}}})
	if want := []string{"lowerdir=u:b:a", "index=off", "ro"}; !reflect.DeepEqual(got[0].Options, want) {
		t.Errorf("%q", got[0].Options)
	}
}

func TestUnmountBelow(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	inner := filepath.Join(dir, "with space")
	for _, at := range []string{dir, inner, filepath.Join(inner, "deep")} {
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := All([]mount.Mount{{Type: "tmpfs", Source: "tmpfs"}}, at); err != nil {
			t.Fatal(err)
		}
	}
	defer Unmount(dir, true)
	if err := UnmountBelow(dir); err != nil {
		t.Error(err)
	}
	for at, want := range map[string]bool{dir: true, inner: false} {
		if is, err := IsMountPoint(at); is != want {
			t.Errorf("%s is mounted: %v, want %v (%v)", at, is, want, err)
		}
	}
}
