package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/types/transfer"
)

// answerAuth tells the daemon the caller's credentials for the hosts it asks
// about, until the stream ends. They are given for the host asked for only.
func answerAuth(s *stream, user string) {
	for {
		a, err := s.recv()
		if err != nil {
			return
		}
		var q transfer.AuthRequest
		if ok, err := Unpack(a, &q); !ok || err != nil {
			return
		}
		name, secret := credentials(q.Host, user)
		r := &transfer.AuthResponse{AuthType: transfer.AuthType_NONE}
		switch {
		case name == "<token>":
			r = &transfer.AuthResponse{AuthType: transfer.AuthType_REFRESH, Secret: secret}
		case name != "" || secret != "":
			r = &transfer.AuthResponse{AuthType: transfer.AuthType_CREDENTIALS, Username: name, Secret: secret}
		}
		if s.send(r) != nil {
			return
		}
	}
}

// dockerConfig is the part of ~/.docker/config.json that holds credentials.
type dockerConfig struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
	CredHelpers map[string]string `json:"credHelpers"`
	CredsStore  string            `json:"credsStore"`
}

// credentials finds a host's name and password: those given on the command
// line, else those of Docker's config file, else its helper programs'. The
// name "<token>" marks an identity token.
func credentials(host, user string) (name, secret string) {
	if user != "" {
		name, secret, _ = strings.Cut(user, ":")
		return name, secret
	}
	config := readDockerConfig()
	for _, key := range keysOf(host) {
		if helper := config.CredHelpers[key]; helper != "" {
			return askHelper(helper, key)
		}
		if a, ok := config.Auths[key]; ok && (a.Auth != "" || a.Username != "" || a.IdentityToken != "") {
			if a.IdentityToken != "" {
				return "<token>", a.IdentityToken
			}
			if a.Auth == "" {
				return a.Username, a.Password
			}
			text, err := base64.StdEncoding.DecodeString(a.Auth)
			if err != nil {
				return "", ""
			}
			name, secret, _ = strings.Cut(string(text), ":")
			return name, strings.TrimRight(secret, "\x00")
		}
	}
	if config.CredsStore != "" {
		for _, key := range keysOf(host) {
			if name, secret = askHelper(config.CredsStore, key); secret != "" {
				return name, secret
			}
		}
	}
	return "", ""
}

// keysOf are the names under which Docker files a host.
func keysOf(host string) []string {
	if host == "docker.io" || host == "registry-1.docker.io" || host == "index.docker.io" {
		return []string{"https://index.docker.io/v1/", "index.docker.io", "docker.io"}
	}
	return []string{host, "https://" + host, "https://" + host + "/v1/", "https://" + host + "/v2/"}
}

func readDockerConfig() dockerConfig {
	var config dockerConfig
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return config
		}
		dir = filepath.Join(home, ".docker")
	}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err == nil {
		json.Unmarshal(data, &config) // a broken file holds no credentials
	}
	return config
}

// askHelper runs docker-credential-<helper> get.
func askHelper(helper, host string) (name, secret string) {
	if strings.ContainsRune(helper, '/') {
		return "", ""
	}
	cmd := exec.Command("docker-credential-"+helper, "get")
	cmd.Stdin = strings.NewReader(host)
	out, err := cmd.Output()
	if err != nil {
		return "", ""
	}
	var answer struct{ Username, Secret string }
	if json.NewDecoder(bytes.NewReader(out)).Decode(&answer) != nil {
		return "", ""
	}
	return answer.Username, answer.Secret
}
