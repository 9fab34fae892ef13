package network

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// Link opens a way from a sandbox to another on a network whose sandboxes are separate
// (see [Options].Separate): to these ports, and for what they answer.
type Link struct {
	// Endpoint is the ID of the other's endpoint on the same network. The link ends
	// with it.
	Endpoint string
	Ports    []Service
}

// Service is where a sandbox answers.
type Service struct {
	Protocol Protocol
	Port     uint16
}

// Linker is a [Driver] that opens ways between separate sandboxes.
type Linker interface {
	Driver
	// SetLinks replaces the links of a connected endpoint; those to endpoints that
	// aren't connected are passed over. The caller records them in the endpoint:
	// Connect and Reconcile open what it names. It returns ErrNotFound for an
	// endpoint that isn't connected.
	SetLinks(ctx context.Context, e Endpoint, links []Link) error
}

// checkLinks tells what is wrong with an endpoint's links.
func checkLinks(links []Link) error {
	ports := 0
	for _, l := range links {
		if !idFormat.MatchString(l.Endpoint) {
			return fmt.Errorf("link to endpoint %q: 12 to 64 hexadecimal digits: %w", l.Endpoint, errdefs.ErrInvalidArgument)
		}
		ports += len(l.Ports)
	}
	if ports > MaxPorts || len(links) > MaxPorts {
		return fmt.Errorf("links to more than %d ports: %w", MaxPorts, errdefs.ErrInvalidArgument)
	}
	return nil
}
