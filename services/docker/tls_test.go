package docker

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTLSNeedsCertificates(t *testing.T) {
	for _, c := range []struct {
		name, want string
		t          TLS
	}{
		{"none", "", TLS{}},
		{"no certificates", "whoever reaches it would own this machine", TLS{Listen: "127.0.0.1:2376"}},
		{"no key", "key: a TCP socket needs", TLS{Listen: "127.0.0.1:2376", CA: "/a", Cert: "/b"}},
		{"no address", "no address", TLS{CA: "/a"}},
		{"bad address", "is no host:port", TLS{Listen: "here", CA: "/a", Cert: "/b", Key: "/c"}},
	} {
		err := c.t.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestKeyIsSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := read(path, secret); err == nil || !strings.Contains(err.Error(), "others can read this key") {
		t.Errorf("a key that all can read was taken: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := read(path, secret); err != nil {
		t.Error(err)
	}
}

func TestBrowsersAreRefused(t *testing.T) {
	for _, key := range []string{"Origin", "Sec-Fetch-Site"} {
		if err := fromBrowser(&http.Request{Header: http.Header{key: {"http://evil.example"}}}); err == nil || status(err) != http.StatusForbidden {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := fromBrowser(&http.Request{Header: http.Header{"User-Agent": {"Docker-Client"}}}); err != nil {
		t.Error(err)
	}
}
