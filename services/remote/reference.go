// Package remote speaks the OCI distribution protocol as a client: it resolves
// references, fetches and pushes blobs and manifests, through mirrors, with
// authentication.
//
// # What a registry is trusted with
//
// Nothing: bytes are verified by whoever stores them, sizes of manifests are
// bounded, credentials go only to the host they are for (a redirect or a token
// realm elsewhere never sees them, except a realm over https that the registry
// itself names), and plain http is for loopback addresses and hosts configured
// so.
//
// A Client is safe for concurrent use and keeps bearer tokens in memory only.
package remote

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Reference is a parsed image name.
type Reference struct {
	Host       string // registry, as in the name: "docker.io", "127.0.0.1:5000"
	Repository string // "library/busybox"
	Tag        string
	Digest     digest.Digest
	Name       string // canonical: host/repository:tag[@digest]
}

// ParseReference reads a name as docker does: short names mean docker.io, a
// name without tag or digest means latest.
func ParseReference(name string) (Reference, error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return Reference{}, fmt.Errorf("image name %q: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	r := Reference{Host: reference.Domain(named), Repository: reference.Path(named), Name: named.String()}
	if t, ok := named.(reference.Tagged); ok {
		r.Tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		r.Digest = d.Digest()
	}
	return r, nil
}

// object is what follows /manifests/: the digest where there is one.
func (r Reference) object() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// Docker Hub's name, and where it really answers.
const (
	dockerHost = "docker.io"
	dockerAPI  = "registry-1.docker.io"
)

// apiHost is where a registry really answers.
func apiHost(host string) string {
	if host == dockerHost {
		return dockerAPI
	}
	return host
}

// isLoopback reports whether a host is this machine, where plain http is safe.
func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
