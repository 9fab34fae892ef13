package plugins

import (
	"errors"
	"strings"
	"testing"

	"github.com/orlop/orlop/plugins/config"
)

func TestConfigCommand(t *testing.T) {
	w := configured()
	run := func(verb, text string) (out, warn string, err error) {
		var o, e strings.Builder
		err = w.ConfigCommand(verb, func() (*config.Document, error) { return config.Parse("orlop.toml", []byte(text)) }, config.DefaultSettings(), &o, &e)
		return o.String(), e.String(), err
	}
	out, _, err := run("default", "")
	if err != nil || !strings.Contains(out, "address = \"/run/x\"\n") || !strings.Contains(out, "# io.test.store.v1.disk keeps bytes.\n") {
		t.Errorf("default: %v\n%s", err, out)
	}
	// What default prints is right, and means the defaults.
	if again, warn, err := run("dump", out); err != nil || warn != "" || again != out {
		t.Errorf("dump of the defaults: %v %s\n%s", err, warn, again)
	}
	if out, _, err := run("check", out); err != nil || out != "the config is right\n" {
		t.Errorf("check: %q %v", out, err)
	}
	const mine = "version = 2\noom_score = 5\ndisabled_plugins = ['io.test.store.v1.tape']\n[plugins.'io.test.door.v1.grpc']\nmax = 3\nmxa = 4"
	out, warn, err := run("dump", mine)
	if err != nil || !strings.Contains(out, "\nmax = 3\n") || !strings.Contains(out, "oom_score = 5\n") ||
		!strings.Contains(out, "# Off: disabled in the config (orlop.toml:3:21).\n") || !strings.Contains(warn, "warning: orlop.toml:6:1: unknown key mxa") {
		t.Errorf("dump: %v\n%s\n%s", err, warn, out)
	}
	out, _, err = run("migrate", mine)
	if err != nil || !strings.HasPrefix(out, "version = 4\n") || !strings.Contains(out, "max = 3\n") {
		t.Errorf("migrate: %v\n%s", err, out)
	}
	if _, _, err := run("check", "rot = '/'"); err == nil || !strings.Contains(err.Error(), `did you mean "root"?`) {
		t.Errorf("check of a mistake: %v", err)
	}
	if out, _, err := run("chek", ""); err == nil || out != "" {
		t.Errorf("unknown verb: %q, %v", out, err)
	}
	broken := errors.New("broken")
	if err := w.ConfigCommand("check", func() (*config.Document, error) { return nil, broken }, config.DefaultSettings(), nil, nil); !errors.Is(err, broken) {
		t.Errorf("unreadable file: %v", err)
	}
}
