package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// call runs the command line as the program called name.
func call(t *testing.T, name, stdin string, args ...string) (out, warn string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	p := newProgram(name)
	p.stdin, p.stdout, p.stderr = strings.NewReader(stdin), &o, &e
	if err = p.run(args); errors.Is(err, flag.ErrHelp) {
		err = nil
	}
	return o.String(), e.String(), err
}

// file writes a config that only its owner can write.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// config.toml.example is what make gen writes: the comments and defaults in the
// code, and nothing that depends on the host.
func TestExampleIsGenerated(t *testing.T) {
	want, err := os.ReadFile("../../config.toml.example")
	if err != nil {
		t.Fatal(err)
	}
	have, _, err := call(t, "orlopd", "", "config", "default")
	if err != nil {
		t.Fatal(err)
	}
	if have != string(want) {
		t.Error("config.toml.example is old: run make gen")
	}
	// Every plugin with keys explains each of them.
	lines := strings.Split(have, "\n")
	for i, line := range lines {
		if strings.Contains(line, " = ") && !strings.HasPrefix(strings.TrimSpace(line), "#") && i > 0 &&
			!strings.HasPrefix(strings.TrimSpace(lines[i-1]), "#") && !strings.HasPrefix(strings.TrimSpace(line), `"`) {
			t.Errorf("line %d has no comment above it: %s", i+1, line)
		}
	}
	if _, warn, err := call(t, "orlopd", "", "-c", file(t, have), "config", "check"); err != nil || warn != "" {
		t.Errorf("the example has mistakes: %v %s", err, warn)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string][]string{
		"orlopd":              {`root = "/var/lib/orlop"`, `state = "/run/orlop"`},
		"/usr/bin/containerd": {`root = "/var/lib/containerd"`, `state = "/run/containerd"`},
		"docker-containerd":   {`root = "/var/lib/containerd"`, `state = "/run/containerd"`},
	} {
		out, _, err := call(t, name, "", "config", "default")
		for _, w := range want {
			if err != nil || !strings.Contains(out, w+"\n") {
				t.Errorf("%s: no %s in its config (%v)", name, w, err)
			}
		}
	}
	help, _, err := call(t, "containerd", "", "--help")
	for _, w := range []string{"-c, --config FILE", "/etc/containerd/config.toml", "--root DIR", "--state DIR", "-a, --address SOCKET", "containerd.sock", "-l, --log-level LEVEL", "-v, --version", "publish", "oci-hook", "config default|dump|check|migrate"} {
		if err != nil || !strings.Contains(help, w) {
			t.Errorf("no %q in the help (%v)\n%s", w, err, help)
		}
	}
	if out, _, err := call(t, "containerd", "", "--version"); err != nil || !strings.HasPrefix(out, "containerd github.com/orlop/orlop 2.") {
		t.Errorf("version %q %v", out, err)
	}
}

// Flags override the file, before and after the verb.
func TestFlagsOverrideFile(t *testing.T) {
	path := file(t, "root = '/file'\nstate = '/file-state'\n[plugins.'io.containerd.server.v1.grpc']\naddress = '/file.sock'\n")
	for _, args := range [][]string{
		{"-c", path, "--root", "/flag", "-a", "/flag.sock", "-l", "debug", "config", "dump"},
		{"config", "dump", "--config", path, "--root=/flag", "--address=/flag.sock", "--log-level=debug"},
	} {
		out, _, err := call(t, "orlopd", "", args...)
		for _, want := range []string{`root = "/flag"`, `state = "/file-state"`, `level = "debug"`, `address = "/flag.sock"`, `address = "/flag.sock.ttrpc"`} {
			if err != nil || !strings.Contains(out, want+"\n") {
				t.Errorf("%v: no %s (%v)\n%s", args, want, err, out)
			}
		}
	}
}

// Mistakes by hand: each is one sentence that says where and what.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"wrong key", "rot = '/x'", `:1:1: unknown key rot (did you mean "root"?)`},
		{"wrong key of a plugin", "[plugins.'io.containerd.server.v1.grpc']\nadress = '/x'", `:2:1: unknown key adress in io.containerd.server.v1.grpc (did you mean "address"?)`},
		{"wrong type", "oom_score = 'high'", ":1:1: oom_score: want an integer, have a string"},
		{"unknown plugin", "[plugins.'io.containerd.server.v1.grcp']\naddress = '/x'", `unknown plugin io.containerd.server.v1.grcp in plugins (did you mean "io.containerd.server.v1.grpc"?)`},
		{"duplicate key", "root = '/a'\nroot = '/b'", ":2:"},
		{"duplicate table", "[debug]\nlevel = 'info'\n[debug]\nlevel = 'warn'", ":3:"},
		{"relative address", "[plugins.'io.containerd.server.v1.ttrpc']\naddress = 'x.sock'", `"x.sock" is no absolute path`},
		{"required is disabled", "required_plugins = ['io.containerd.metadata.v1.bolt']\ndisabled_plugins = ['io.containerd.metadata.v1.bolt']", "both required and disabled"},
		{"unknown default", "[defaults]\n'io.containerd.snapshotter.v1' = 'overlay'", `did you mean "overlayfs"?`},
		{"too old", "version = 1", "version 1 is too old"},
	} {
		_, _, err := call(t, "orlopd", "", "-c", file(t, c.text), "config", "check")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	for _, args := range [][]string{{"cnofig"}, {"config"}, {"config", "chek"}, {"--rot", "/x"}, {"-c", "/nonexistent/x", "config", "check"}} {
		if _, _, err := call(t, "orlopd", "", args...); err == nil {
			t.Errorf("%v is no mistake", args)
		}
	}
}

func TestWritableByOthers(t *testing.T) {
	path := file(t, "oom_score = 1")
	check := func(want string) {
		t.Helper()
		_, _, err := call(t, "orlopd", "", "-c", path, "config", "check")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	check("")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	check("every user can write this file (mode 0666); run: chmod o-w " + path)
	if err := errors.Join(os.Chmod(path, 0o600), os.Chmod(filepath.Dir(path), 0o777)); err != nil {
		t.Fatal(err)
	}
	check("every user can write to the folder " + filepath.Dir(path))
}

// written are the files that dockerd and buildkitd write for the containerd they start.
var written = map[string]string{
	"dockerd": `disabled_plugins = ["io.containerd.grpc.v1.cri"]
imports = []
oom_score = 0
plugin_dir = ""
required_plugins = []
root = "/var/lib/docker/containerd/daemon"
state = "/var/run/docker/containerd/daemon"
temp = ""
version = 2
[cgroup]
  path = ""
[debug]
  address = "/var/run/docker/containerd/containerd-debug.sock"
  format = ""
  gid = 0
  level = "debug"
  uid = 0
[grpc]
  address = "/var/run/docker/containerd/containerd.sock"
  gid = 0
  max_recv_message_size = 16777216
  max_send_message_size = 16777216
  tcp_address = ""
  tcp_tls_ca = ""
  tcp_tls_cert = ""
  tcp_tls_key = ""
  uid = 0
[metrics]
  address = ""
  grpc_histogram = false
[plugins]
[proxy_plugins]
[stream_processors]
[timeouts]
[ttrpc]
  address = ""
  gid = 0
  uid = 0
`,
	"buildkitd": `version = 2
root = "/tmp/bk/root"
state = "/tmp/bk/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/tmp/bk/containerd.sock"
[debug]
  level = "debug"
  address = "/tmp/bk/debug.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "x"
`,
}

func TestConfigsOfOthers(t *testing.T) {
	for who, wants := range map[string][]string{
		"dockerd": {`root = "/var/lib/docker/containerd/daemon"`, `address = "/var/run/docker/containerd/containerd.sock"`,
			`address = "/var/run/docker/containerd/containerd.sock.ttrpc"`, `level = "debug"`, `max_recv_message_size = 16777216`},
		"buildkitd": {`root = "/tmp/bk/root"`, `address = "/tmp/bk/containerd.sock"`, `address = "/tmp/bk/containerd.sock.ttrpc"`},
	} {
		path := file(t, written[who])
		if _, _, err := call(t, "containerd", "", "-c", path, "config", "check"); err != nil {
			t.Errorf("%s: %v", who, err)
		}
		for _, verb := range []string{"dump", "migrate"} {
			out, _, err := call(t, "containerd", "", "-c", path, "config", verb)
			for _, want := range wants {
				if err != nil || !strings.Contains(out, want+"\n") {
					t.Errorf("%s, %s: no %s (%v)\n%s", who, verb, want, err, out)
				}
			}
			// What was migrated means the same.
			if _, _, err := call(t, "containerd", "", "-c", file(t, out), "config", "check"); err != nil {
				t.Errorf("%s, %s: %v", who, verb, err)
			}
		}
	}
}
