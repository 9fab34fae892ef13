package engine

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/mount"
)

func TestBind(t *testing.T) {
	for text, want := range map[string]string{
		"/a:/b": "/a rbind,rprivate", "/a:/b:ro": "/a rbind,rprivate,ro,rro", "/a:/b:rw,rslave": "/a rbind,rslave", "/a:/b:z": "/a rbind,rprivate",
		"/b": " rbind,rprivate", "name:/b": "name rbind,rprivate", "name:/b/:nocopy,ro": "name rbind,rprivate,ro,rro",
	} {
		m, err := bind(text)
		if got := m.Source + m.Name + " " + strings.Join(m.spec().Options, ","); err != nil || got != want || !strings.HasPrefix(m.Target, "/b") {
			t.Errorf("%s: got %s, %+v, %v", text, got, m, err)
		}
	}
	for _, text := range []string{"/a:b", "/a:/", ":/b", "/a:/b:odd", "/a:/b:ro:x", "/a:/b:nocopy", "name:/b:rslave", "name:b"} {
		if _, err := bind(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestMount(t *testing.T) {
	for name, c := range map[string]struct {
		in   mount.Mount
		want string // options, or "" for a refusal
	}{
		"bind":            {mount.Mount{Type: "bind", Source: "/a", Target: "/b"}, "rbind,rprivate"},
		"read-only":       {mount.Mount{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true}, "rbind,rprivate,ro,rro"},
		"shallow":         {mount.Mount{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyNonRecursive: true}}, "rbind,rprivate,ro"},
		"flat":            {mount.Mount{Type: "bind", Source: "/a", Target: "/b", BindOptions: &mount.BindOptions{NonRecursive: true}}, "bind,rprivate"},
		"forced, shared":  {mount.Mount{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true, Propagation: "shared"}}, ""},
		"forced, rw":      {mount.Mount{Type: "bind", Source: "/a", Target: "/b", BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true}}, ""},
		"relative":        {mount.Mount{Type: "bind", Source: "a", Target: "/b"}, ""},
		"wrong options":   {mount.Mount{Type: "bind", Source: "/a", Target: "/b", TmpfsOptions: &mount.TmpfsOptions{}}, ""},
		"subpath":         {mount.Mount{Type: "volume", Source: "vol", Target: "/b", VolumeOptions: &mount.VolumeOptions{Subpath: "x/y"}}, "rbind,rprivate,x-orlop-subpath=x/y"},
		"subpath out":     {mount.Mount{Type: "volume", Source: "vol", Target: "/b", VolumeOptions: &mount.VolumeOptions{Subpath: "../y"}}, ""},
		"subpath rooted":  {mount.Mount{Type: "volume", Source: "vol", Target: "/b", VolumeOptions: &mount.VolumeOptions{Subpath: "/y"}}, ""},
		"subpath of none": {mount.Mount{Type: "volume", Target: "/b", VolumeOptions: &mount.VolumeOptions{Subpath: "y"}}, ""},
		"tmpfs":           {mount.Mount{Type: "tmpfs", Target: "/b", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 9, Mode: 0o700, Options: [][]string{{"exec"}, {"uid", "7"}}}}, "noexec,nosuid,nodev,size=9,mode=700,exec,uid=7"},
		"tmpfs, odd":      {mount.Mount{Type: "tmpfs", Target: "/b", TmpfsOptions: &mount.TmpfsOptions{Options: [][]string{{"lowerdir", "/"}}}}, ""},
		"unknown":         {mount.Mount{Type: "odd", Target: "/b"}, ""},
	} {
		m, err := mountOf(c.in)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: was accepted as %+v", name, m)
			}
			continue
		}
		if got := strings.Join(m.spec().Options, ","); err != nil || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, c.want)
		}
	}
}
