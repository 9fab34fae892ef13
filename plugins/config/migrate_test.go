package config

import (
	"strings"
	"testing"
)

// TestMigrate shows old files and what they mean today.
func TestMigrate(t *testing.T) {
	for _, c := range []struct{ name, old, now string }{
		{"what dockerd writes", `
version = 2
root = "/var/lib/docker/containerd/daemon"
state = "/var/run/docker/containerd/daemon"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
oom_score = 0
imports = []

[grpc]
  address = "/var/run/docker/containerd/containerd.sock"
  uid = 0
  gid = 0
  max_recv_message_size = 16777216
  max_send_message_size = 16777216

[debug]
  address = "/var/run/docker/containerd/containerd-debug.sock"
  uid = 0
  gid = 0
  level = ""
  format = ""

[metrics]
  address = ""
  grpc_histogram = false
`, `version = 4
disabled_plugins = ["io.containerd.grpc.v1.cri"]
oom_score = 0
root = "/var/lib/docker/containerd/daemon"
state = "/var/run/docker/containerd/daemon"

[debug]
format = ""
level = ""

[plugins."io.containerd.server.v1.debug"]
address = "/var/run/docker/containerd/containerd-debug.sock"
gid = 0
uid = 0

[plugins."io.containerd.server.v1.grpc"]
address = "/var/run/docker/containerd/containerd.sock"
max_recv_message_size = 16777216
max_send_message_size = 16777216

[plugins."io.containerd.server.v1.ttrpc"]
address = "/var/run/docker/containerd/containerd.sock.ttrpc"
`},
		{"tcp and metrics", `
version = 3
[grpc]
address = "/a.sock"
tcp_address = "127.0.0.1:1"
tcp_tls_cert = "c"
max_recv_message_size = 5
[ttrpc]
address = "/t.sock"
[metrics]
address = "127.0.0.1:2"
grpc_histogram = true
`, `version = 4

[plugins."io.containerd.metrics.v1.grpc-prometheus"]
grpc_histogram = true

[plugins."io.containerd.server.v1.grpc"]
address = "/a.sock"
max_recv_message_size = 5

[plugins."io.containerd.server.v1.grpc-tcp"]
address = "127.0.0.1:1"
max_recv_message_size = 5
tls_cert = "c"

[plugins."io.containerd.server.v1.metrics"]
address = "127.0.0.1:2"

[plugins."io.containerd.server.v1.ttrpc"]
address = "/t.sock"
`},
		{"cri", `
version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "pause:1"
max_concurrent_downloads = 3
stream_server_port = "0"
enable_selinux = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/etc/certs.d"
`, `version = 4

[plugins."io.containerd.cri.v1.images"]
max_concurrent_downloads = 3
snapshotter = "native"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "pause:1"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "/etc/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
enable_selinux = true

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri"]
stream_server_port = "0"
`},
		{"renamed plugins", `
version = 2
disabled_plugins = ["io.containerd.internal.v1.restart"]
[plugins."io.containerd.monitor.v1.cgroups"]
no_prometheus = true
`, `version = 4
disabled_plugins = ["io.containerd.monitor.container.v1.restart"]

[plugins."io.containerd.monitor.task.v1.cgroups"]
no_prometheus = true
`},
		{"the newest stays", "version = 4\nroot = '/x'\n[plugins.'a.b']\nlist = [1, 'two', {three = 3.0}]\n",
			"version = 4\nroot = \"/x\"\n\n[plugins.\"a.b\"]\nlist = [1, \"two\", {three = 3.0}]\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc, err := Parse("old.toml", []byte(c.old))
			if err != nil {
				t.Fatal(err)
			}
			got := doc.TOML()
			if got != c.now {
				t.Errorf("migrated:\n%s\nwant:\n%s", got, c.now)
			}
			again, err := Parse("new.toml", []byte(got))
			if err != nil {
				t.Fatal(err)
			}
			if text := again.TOML(); text != got {
				t.Errorf("migrated once more:\n%s", text)
			}
		})
	}
}

func TestMigratedValuesKeepTheirPlace(t *testing.T) {
	doc, err := Parse("old.toml", []byte("version = 2\n\n[grpc]\n  address = 7\n"))
	if err != nil {
		t.Fatal(err)
	}
	var server struct{ Address string }
	var r Report
	Decode(doc.Root.Get("plugins", idGRPC), &server, idGRPC, &r)
	if got := r.Problems.Error(); got != "old.toml:4:3: io.containerd.server.v1.grpc.address: want a string, have an integer" {
		t.Error(got)
	}
}

func TestForeign(t *testing.T) {
	old := &Node{foreign: true}
	for _, c := range []struct {
		id   string
		node *Node
		want bool
	}{
		{"io.containerd.nri.v1.nri", nil, true},
		{"io.containerd.made.v1.up", nil, false},
		{"io.containerd.made.v1.up", old, true},
		{"io.orlop.made.v1.up", old, false},
		{"overlayfs", old, false},
	} {
		if got := Foreign(c.id, c.node); got != c.want {
			t.Errorf("Foreign(%s) = %v", c.id, got)
		}
	}
}

// FuzzParse looks for panics, for values without a place, and for documents
// that don't survive being written and read again.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"version = 2\n[grpc]\naddress = 'x'\ntcp_address = 'y'", "version = 3\n[plugins]\na = 1", "plugins = 1\nversion = 2",
		"[[a]]\nb = {c = [1, {d = 2}]}\n[[a.e]]\n[a.f]\ng = 1979-05-27T07:32:00Z", "grpc = 1\nversion = 2", "a.b.c = inf\n'' = -nan",
		"version = 2\n[plugins.'io.containerd.grpc.v1.cri']\ncontainerd = 1\nsandbox_image = 1", "\"a\\u0000b\" = 1", "x = '''\na'''", "debug = []",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := Parse("f.toml", []byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.toml:") {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		var r Report
		doc.Settings(DefaultSettings(), &r)
		var s sample
		Decode(doc.Root, &s, "x", &r)
		for _, p := range append(r.Problems, r.Warnings...) {
			if p.Pos.File != "f.toml" || p.Pos.Line < 0 {
				t.Errorf("a problem without a place: %+v", p)
			}
		}
		written := doc.TOML()
		again, err := Parse("f.toml", []byte(written))
		if err != nil {
			t.Fatalf("what was written can't be read: %v\n%s", err, written)
		}
		if text := again.TOML(); text != written {
			t.Errorf("written:\n%s\nread and written again:\n%s", written, text)
		}
	})
}
