package client

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	// A helper knows one host and answers what it was asked, so that a wrong
	// question shows.
	write("docker-credential-test", "#!/bin/sh\nread -r host\ntest \"$host\" = helped.example || exit 1\necho '{\"Username\":\"'$host'\",\"Secret\":\"from-helper\"}'\n", 0o755)
	write("config.json", `{
		"auths": {
			"reg.example": {"auth": "dXNlcjpwYXNzOndpdGg6Y29sb25z"},
			"https://index.docker.io/v1/": {"username": "hub", "password": "hubpass"},
			"tokens.example:5000": {"identitytoken": "idt"},
			"broken.example": {"auth": "%%%"},
			"helped.example": {}
		},
		"credHelpers": {"helped.example": "test", "evil.example": "../../bin/sh"}
	}`, 0o600)
	for _, c := range []struct{ host, user, name, secret string }{
		{"reg.example", "", "user", "pass:with:colons"},
		{"docker.io", "", "hub", "hubpass"},
		{"registry-1.docker.io", "", "hub", "hubpass"},
		{"tokens.example:5000", "", "<token>", "idt"},
		{"broken.example", "", "", ""},
		{"helped.example", "", "helped.example", "from-helper"},
		{"evil.example", "", "", ""},
		{"other.example", "", "", ""},
		{"sub.reg.example", "", "", ""},
		{"reg.example:5000", "", "", ""},
		{"reg.example", "me:mine", "me", "mine"},
	} {
		name, secret := credentials(c.host, c.user)
		if name != c.name || secret != c.secret {
			t.Errorf("%s: %q and %q, want %q and %q", c.host, name, secret, c.name, c.secret)
		}
	}
	write("config.json", `{"credsStore": "test"}`, 0o600)
	if _, secret := credentials("helped.example", ""); secret != "from-helper" {
		t.Errorf("the store says %q", secret)
	}
	write("config.json", `{`, 0o600)
	if name, secret := credentials("reg.example", ""); name != "" || secret != "" {
		t.Errorf("a broken file gives %q and %q", name, secret)
	}
}
