package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What a checkpoint says of the world outside must not say more to CRIU than it should.
func TestLoadOutside(t *testing.T) {
	good := outside{Stdio: [3]string{"pipe:[12]", "file[1f:2e]", ""}, Mounts: []outerMount{{At: "/a/b"}}}
	for name, c := range map[string]struct {
		bad  bool
		edit func(*outside)
	}{
		"good":                      {edit: func(*outside) {}},
		"a mount with two names":    {true, func(o *outside) { o.Mounts[0].At = "/a]:/etc" }},
		"a mount that leads out":    {true, func(o *outside) { o.Mounts[0].At = "/a/../../etc" }},
		"a mount at no place":       {true, func(o *outside) { o.Mounts[0].At = "a" }},
		"a mount of the root":       {true, func(o *outside) { o.Mounts[0].At = "/" }},
		"a stream with an argument": {true, func(o *outside) { o.Stdio[2] = "pipe:[12]:x" }},
		"a stream that is a mount":  {true, func(o *outside) { o.Stdio[0] = "mnt[/]:/" }},
	} {
		t.Run(name, func(t *testing.T) {
			o, dir := good, t.TempDir()
			o.Mounts = []outerMount{good.Mounts[0]}
			c.edit(&o)
			b, err := json.Marshal(&o)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, outsideFile), b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := loadOutside(dir); (err != nil) != c.bad {
				t.Error(err)
			}
		})
	}
}

// What a device of a checkpoint may be.
func TestHostDevice(t *testing.T) {
	for name, good := range map[string]bool{"/dev/null": true, "/dev/shm": false, "/dev/fd": false, "/etc/passwd": false, "/dev/nosuch": false} {
		if _, err := hostDevice(name); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Mounts that could not be restored are refused while the container is still there.
func TestOutsideMounts(t *testing.T) {
	spec := &specs.Spec{Mounts: []specs.Mount{{Destination: "/data", Type: "bind", Options: []string{"rbind"}}}}
	for _, c := range []struct {
		at, optional string
		good         bool
	}{{"/data", "", true}, {"/data", "shared:1", true}, {"/data", "master:1", false}, {"/data/a:b", "", false}} {
		own := []*mountinfo.Info{{Mountpoint: "/", Major: 1}, {Mountpoint: c.at, Optional: c.optional, Major: 2}}
		err := (&outside{}).mounts(own, own[1:], spec)
		if (err == nil) != c.good {
			t.Errorf("%s %q: %v", c.at, c.optional, err)
		}
	}
}
