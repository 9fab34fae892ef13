package plugins

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/graph"
)

type doorConfig struct {
	// Address to listen at.
	Address string `toml:"address"`
	// Max size of a message.
	Max int `toml:"max"`
	// Store to use by name.
	Store string `toml:"store"`
}

func (c *doorConfig) Validate() error {
	if c.Address == "" {
		return errors.New("address: must not be empty")
	}
	return nil
}

// configured provides a door with a config, a store and two snapshotters.
func configured() *world {
	w := newWorld()
	w.provide(store, "disk")
	w.provide(store, "tape")
	w.provide(snap, "fast")
	w.provide(snap, "plain")
	w.provide(door, "grpc", func(s *Scope) {
		c := Config(s, doorConfig{Address: "/run/x", Max: 16, Store: "disk"})
		Named(s, store, c.Store)
		One(s, snap)
	})
	ProvideProxy(&w.Registry, snap, "snapshot", func(s *Scope, p config.Proxy) Build[*part] {
		return func(context.Context) (*part, error) { return &part{id: p.Address, log: &w.log}, nil }
	})
	return w
}

func TestMistakesAllAtOnce(t *testing.T) {
	_, err := configured().plan(t, `version = 4
rooot = "/x"
disabled_plugins = ["io.test.snapshotter.v1.fsat", "io.containerd.grpc.v1.cri"]
required_plugins = ["io.containerd.grpc.v1.cri"]
oom_score = 2000

[defaults]
"io.test.snapshotter.v1" = "fasst"
"io.test.snapshoter.v1" = "fast"

[plugins."io.test.door.v1.grpc"]
adress = "/y"
max = "big"
store = "dsk"

[plugins."io.test.dor.v1.grpc"]

[plugins."io.containerd.nri.v1.nri"]
disable = true

[proxy_plugins.p]
type = "snapshott"
address = "/p.sock"
[proxy_plugins.q]
type = "snapshot"
[proxy_plugins.fast]
type = "snapshot"
address = "/p.sock"
`)
	want := `orlop.toml:2:1: unknown key rooot (did you mean "root"?)
orlop.toml:3:21: unknown plugin io.test.snapshotter.v1.fsat in disabled_plugins (did you mean "io.test.snapshotter.v1.fast"?)
orlop.toml:3:52: io.containerd.grpc.v1.cri is both required and disabled
orlop.toml:4:21: unknown plugin io.containerd.grpc.v1.cri in required_plugins
orlop.toml:8:1: defaults: io.test.snapshotter.v1 has no provider "fasst", only fast, plain (did you mean "fast"?)
orlop.toml:9:1: unknown role io.test.snapshoter.v1 in defaults (did you mean "io.test.snapshotter.v1"?)
orlop.toml:11:10: io.test.door.v1.grpc needs io.test.store.v1.dsk, which nothing provides (did you mean "disk"?)
orlop.toml:12:1: unknown key adress in io.test.door.v1.grpc (did you mean "address"?)
orlop.toml:13:1: io.test.door.v1.grpc.max: want an integer, have a string
orlop.toml:16:10: unknown plugin io.test.dor.v1.grpc in plugins (did you mean "io.test.door.v1.grpc"?)
orlop.toml:22:1: proxy_plugins.p: type "snapshott" is none of snapshot (did you mean "snapshot"?)
orlop.toml:24:16: proxy_plugins.q has no address
orlop.toml:26:16: proxy_plugins.fast: io.test.snapshotter.v1.fast is built in; choose another name`
	if err == nil || err.Error() != want {
		t.Errorf("mistakes:\n%v\nwant:\n%s", err, want)
	}
}

func TestValidateIsReportedAtItsKey(t *testing.T) {
	_, err := configured().plan(t, "oom_score = -2000\n[plugins.'io.test.door.v1.grpc']\nmax = 1\naddress = ''")
	want := "orlop.toml:1:1: oom_score: -2000 is not between -1000 and 1000\n" +
		"orlop.toml:4:1: io.test.door.v1.grpc: address: must not be empty"
	if err == nil || err.Error() != want {
		t.Errorf("mistakes:\n%v\nwant:\n%s", err, want)
	}
}

func TestForeignTablesWarn(t *testing.T) {
	p, err := configured().plan(t, `version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[plugins."io.containerd.snapshotter.v1.made-up"]
x = 1
[plugins."io.test.door.v1.grpc"]
adress = "/y"
`)
	if err != nil {
		t.Fatal(err)
	}
	want := `orlop.toml:3:10: io.containerd.snapshotter.v1.made-up is ignored: containerd has this plugin, Orlop doesn't
orlop.toml:6:1: unknown key adress in io.test.door.v1.grpc (did you mean "address"?)`
	if got := p.Warnings.Error(); got != want {
		t.Errorf("warnings:\n%s\nwant:\n%s", got, want)
	}
	if _, err := configured().plan(t, "[plugins.'io.containerd.snapshotter.v1.made-up']"); err == nil {
		t.Error("an unknown plugin in a file of the newest version must be a mistake")
	}
}

func TestMissingNeeds(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk")
	w.provide(door, "a", one(nobody))
	w.provide(door, "b", one(store))
	_, err := w.plan(t, "disabled_plugins = ['io.test.store.v1.disk']")
	want := `orlop.toml:1:21: io.test.door.v1.b needs io.test.store.v1: io.test.store.v1.disk is off: disabled in the config (orlop.toml:1:21)
io.test.door.v1.a needs io.test.nobody.v1, which nothing provides`
	if err == nil || err.Error() != want {
		t.Errorf("mistakes:\n%v\nwant:\n%s", err, want)
	}
	if _, err := w.plan(t, "disabled_plugins = ['io.test.store.v1.disk', 'io.test.door.v1.a', 'io.test.door.v1.b']"); err != nil {
		t.Errorf("with the users disabled too: %v", err)
	}
}

func TestAmbiguousNeedAndDefaults(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk")
	w.provide(store, "tape")
	var got string
	Provide(&w.Registry, door, "grpc", func(s *Scope) Build[*part] {
		ref := One(s, store)
		return func(context.Context) (*part, error) { got = ref().id; return &part{}, nil }
	})
	_, err := w.plan(t, "")
	want := `io.test.door.v1.grpc needs one io.test.store.v1 and there are 2: disk, tape; choose by [defaults] "io.test.store.v1" = "disk", or disable the others`
	if err == nil || err.Error() != want {
		t.Errorf("mistakes:\n%v\nwant:\n%s", err, want)
	}
	for text, name := range map[string]string{
		"defaults = {'io.test.store.v1' = 'tape'}":     "tape",
		"disabled_plugins = ['io.test.store.v1.tape']": "disk",
	} {
		if _, err := w.start(t, text); err != nil || got != name {
			t.Errorf("%s: took %s, %v", text, got, err)
		}
	}
}

func TestCyclesArePrintedAsPaths(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk", one(snap))
	w.provide(snap, "plain", func(s *Scope) { After(s, door) })
	w.provide(door, "grpc", func(s *Scope) { All(s, store) })
	_, err := w.plan(t, "")
	want := "these plugins need each other: io.test.door.v1.grpc -> io.test.store.v1.disk -> io.test.snapshotter.v1.plain -> io.test.door.v1.grpc"
	if err == nil || err.Error() != want {
		t.Errorf("mistakes:\n%v\nwant:\n%s", err, want)
	}
}

func TestRequiredAndDisabled(t *testing.T) {
	_, err := configured().plan(t, "disabled_plugins=['io.test.store.v1.tape']\nrequired_plugins=['io.test.store.v1.tape']")
	if err == nil || !strings.Contains(err.Error(), "orlop.toml:1:19: io.test.store.v1.tape is both required and disabled") {
		t.Errorf("error %v", err)
	}
}

func TestRequiredByConfigStopsTheStart(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk")
	w.fails["disk"] = errors.New("full")
	if _, err := w.start(t, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.start(t, "required_plugins = ['io.test.store.v1.disk']"); err == nil {
		t.Error("a required plugin failed and the start went on")
	}
}

func TestProxies(t *testing.T) {
	dir := t.TempDir()
	sock := filepath.Join(dir, "p.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	text := "[defaults]\n'io.test.snapshotter.v1' = 'far'\n[proxy_plugins.far]\ntype='snapshot'\naddress='" + sock + "'\nplatform='linux/arm64/v8'\ncapabilities=['rebase']\nexports={root='/r'}"
	for _, c := range []struct {
		sock, dir os.FileMode
		want      string
	}{
		{0o600, 0o755, ""},
		{0o666, 0o755, "every user can write to it"},
		{0o600, 0o777, "every user can write to the folder"},
		{0o600, 0o777 | os.ModeSticky, ""},
	} {
		if err := errors.Join(os.Chmod(sock, c.sock), os.Chmod(dir, c.dir)); err != nil {
			t.Fatal(err)
		}
		sys, err := configured().start(t, text)
		if err != nil {
			t.Fatal(err)
		}
		g := sys.Graph()
		n := g.Node("io.test.snapshotter.v1.far")
		if c.want == "" && n.Status != graph.OK || !strings.Contains(n.Why, c.want) {
			t.Errorf("socket %o in %o: %s %s", c.sock, c.dir, n.Status, n.Why)
		}
		if n.Platforms[0].Variant != "v8" || n.Exports["root"] != "/r" || n.Capabilities[0] != "rebase" || !n.Proxy {
			t.Errorf("node %+v", n)
		}
	}
}

func TestReload(t *testing.T) {
	w := configured()
	type liveConfig struct {
		Level string `toml:"level"`
		Fixed string `toml:"fixed"`
	}
	level := "info"
	Provide(&w.Registry, door, "log", func(s *Scope) Build[*part] {
		c := Config(s, liveConfig{Level: "info"})
		Live(s, c, func(_ context.Context, next *liveConfig) error {
			switch {
			case next.Fixed != c.Fixed:
				return ErrRestart
			case next.Level == "bad":
				return errors.New("no such level")
			}
			level = next.Level
			return nil
		})
		return func(context.Context) (*part, error) { return &part{}, nil }
	})
	sys, err := w.start(t, "")
	if err != nil {
		t.Fatal(err)
	}
	reload := func(text string) string {
		doc, err := config.Parse("orlop.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		changes, err := sys.Reload(t.Context(), doc, config.DefaultSettings())
		if err != nil {
			return err.Error()
		}
		lines := make([]string, len(changes))
		for i, c := range changes {
			lines[i] = c.String()
		}
		return strings.Join(lines, "\n")
	}
	const log = "[plugins.'io.test.door.v1.log']\n"
	for _, c := range []struct{ text, want, level string }{
		{"", "", "info"},
		{log + "level = 'debug'", "io.test.door.v1.log: [level]: applied", "debug"},
		{log + "level = 'debug'", "", "debug"},
		{log + "level = 'bad'", "io.test.door.v1.log: [level]: not applied: no such level", "debug"},
		{log + "level = 'debug'\nfixed = 'x'", "io.test.door.v1.log: [fixed]: restart needed", "debug"},
		{log + "levl = 'debug'", `orlop.toml:2:1: unknown key levl in io.test.door.v1.log (did you mean "level"?)`, "debug"},
		{"root = '/other'\n" + log + "level = 'debug'\n[plugins.'io.test.door.v1.grpc']\nmax=1",
			"io.test.door.v1.grpc: [max]: restart needed\nsettings: [root]: restart needed", "debug"},
		{"disabled_plugins=['io.test.store.v1.tape']\n" + log + "level='debug'",
			"io.test.store.v1.tape: [on/off]: restart needed\nsettings: [disabled_plugins]: restart needed", "debug"},
	} {
		if got := reload(c.text); got != c.want || level != c.level {
			t.Errorf("reload of %q:\n%s (level %s)\nwant:\n%s", c.text, got, level, c.want)
		}
	}
}

// Those of the daemon's own keys that can change while it runs do; the others
// wait, and a second reload tells only of them.
func TestReloadSettings(t *testing.T) {
	w := configured()
	level := ""
	w.LiveSettings([]string{"debug"}, func(_ context.Context, next config.Settings) error {
		if next.Debug.Level == "error" {
			return errors.New("not that one")
		}
		level = next.Debug.Level
		return nil
	})
	sys, err := w.start(t, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want, level string }{
		{"temp = '/x'\n[debug]\nlevel = 'warn'", "settings: [debug]: applied; settings: [temp]: restart needed", "warn"},
		{"temp = '/x'\n[debug]\nlevel = 'warn'", "settings: [temp]: restart needed", "warn"},
		{"[debug]\nlevel = 'error'", "settings: [debug]: not applied: not that one", "warn"},
	} {
		doc, err := config.Parse("orlop.toml", []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		changes, err := sys.Reload(t.Context(), doc, config.DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, c := range changes {
			lines = append(lines, c.String())
		}
		if got := strings.Join(lines, "; "); got != c.want || level != c.level {
			t.Errorf("%q: %s (level %s), want %s", c.text, got, level, c.want)
		}
	}
	if text := sys.Dump(false); !strings.Contains(text, `level = "warn"`) || strings.Contains(text, `temp = "/x"`) {
		t.Errorf("in force:\n%s", text)
	}
}

// Look reads another provider's config; its mistakes are reported once.
func TestLook(t *testing.T) {
	w := configured()
	var seen doorConfig
	Provide(&w.Registry, door, "asking", func(s *Scope) Build[*part] {
		seen = Look(s, "io.test.door.v1.grpc", doorConfig{Address: "/default", Max: 7})
		return func(context.Context) (*part, error) { return &part{}, nil }
	})
	if _, err := w.plan(t, "[plugins.'io.test.door.v1.grpc']\naddress = '/there'"); err != nil || seen.Address != "/there" || seen.Max != 7 {
		t.Errorf("looked at %+v, %v", seen, err)
	}
	_, err := w.plan(t, "[plugins.'io.test.door.v1.grpc']\nmax = 'x'")
	if err == nil || strings.Count(err.Error(), "want an integer") != 1 {
		t.Errorf("a mistake: %v", err)
	}
}
