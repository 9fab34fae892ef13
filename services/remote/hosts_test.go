package remote

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func hosts(t *testing.T, host, text string) *Client {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return New(Config{HostDirs: []string{dir}})
}

func addresses(t *testing.T, c *Client, host string) []string {
	t.Helper()
	all, err := c.endpoints(host)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range all {
		out = append(out, e.base.String()+" "+strings.Join(e.can, "+"))
	}
	return out
}

func TestHosts(t *testing.T) {
	const every = "pull+resolve+push"
	for _, c := range []struct {
		name, folder, text, host string
		want                     []string
	}{
		{"none", "other.example", "", "reg.example", []string{"https://reg.example/v2 " + every}},
		{"loopback", "other.example", "", "127.0.0.1:5000", []string{"http://127.0.0.1:5000/v2 " + every}},
		{"docker.io", "other.example", "", "docker.io", []string{"https://registry-1.docker.io/v2 " + every}},
		{"order of the file", "reg.example", "[host.\"https://z.example\"]\n[host.\"https://a.example\"]\n", "reg.example",
			[]string{"https://z.example/v2 " + every, "https://a.example/v2 " + every, "https://reg.example/v2 " + every}},
		{"a key that another one contains", "reg.example",
			"# \"https://b\" comes later\n[host.\"https://bb\"]\n[host.\"https://b\"]\n", "reg.example",
			[]string{"https://bb/v2 " + every, "https://b/v2 " + every, "https://reg.example/v2 " + every}},
		{"default", "_default", "[host.\"http://m.example:80/prefix\"]\ncapabilities=[\"pull\"]\n", "reg.example",
			[]string{"http://m.example:80/prefix/v2 pull", "https://reg.example/v2 " + every}},
		{"override_path", "reg.example", "server=\"https://s.example/api\"\noverride_path=true\n", "reg.example", []string{"https://s.example/api " + every}},
		{"port in the folder's name", "reg.example_5000_", "server=\"http://plain.example\"\n", "reg.example:5000", []string{"http://plain.example/v2 " + every}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := addresses(t, hosts(t, c.folder, c.text), c.host)
			if !slices.Equal(got, c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestHostsMistakes(t *testing.T) {
	for name, text := range map[string]string{
		"not TOML":             "server = ",
		"unknown capability":   "capabilities = [\"fly\"]",
		"no address":           "[host.\"ftp://x\"]",
		"missing authority":    "ca = \"nothing.crt\"",
		"missing certificate":  "client = \"nothing.pem\"",
		"bad duration":         "dial_timeout = \"soon\"",
		"wrong type of server": "server = 7",
	} {
		if _, err := hosts(t, "reg.example", text).endpoints("reg.example"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, host := range []string{"..", "a/../../b", "", "a\x00b"} {
		if _, err := New(Config{HostDirs: []string{t.TempDir()}}).endpoints(host); !errdefs.IsInvalidArgument(err) {
			t.Errorf("registry %q: %v", host, err)
		}
	}
}

func TestRealm(t *testing.T) {
	for _, c := range []struct {
		registry, realm string
		ok              bool
	}{
		{"https://reg.example/v2", "https://auth.example/token", true},
		{"https://reg.example/v2", "http://reg.example/token", false},
		{"https://reg.example/v2", "http://127.0.0.1/token", false},
		{"http://reg.example/v2", "http://reg.example:81/token", true},
		{"http://reg.example/v2", "http://evil.example/token", false},
		{"http://reg.example/v2", "https://evil.example/token", false},
		{"http://127.0.0.1:5000/v2", "http://127.0.0.1:5001/token", true},
		{"http://127.0.0.1:5000/v2", "https://auth.example/token", true},
		{"http://127.0.0.1:5000/v2", "http://127.0.0.1.evil.example/token", false},
		{"https://reg.example/v2", "file:///etc/passwd", false},
		{"https://reg.example/v2", "https:///token", false},
		{"https://reg.example/v2", "/token", false},
	} {
		base, _ := url.Parse(c.registry)
		realm, _ := url.Parse(c.realm)
		if err := checkRealm(endpoint{base: *base}, realm); (err == nil) != c.ok {
			t.Errorf("registry %s, realm %s: %v", c.registry, c.realm, err)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1": true, "127.9.9.9:80": true, "[::1]:5000": true, "::1": true,
		"127.0.0.1.evil.example": false, "127.example:80": false, "reg.example": false, "10.0.0.1": false, "[::2]:80": false,
	} {
		if isLoopback(host) != want {
			t.Errorf("%s: loopback is %v", host, !want)
		}
	}
}
