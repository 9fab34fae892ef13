// Package namespaces carries the tenant of a request through contexts. Names of
// images, containers, snapshots and leases are unique within a namespace only.
package namespaces

import (
	"context"
	"fmt"
	"regexp"

	"github.com/containerd/errdefs"
)

// Header is the gRPC metadata key that carries the namespace; TTRPCHeader is
// the one of ttrpc. Both are containerd's.
const (
	Header      = "containerd-namespace"
	TTRPCHeader = "containerd-namespace-ttrpc"
	// Default is what clients use that don't care.
	Default = "default"
)

// maxLength bounds names of namespaces and identifiers, as containerd does.
const maxLength = 76

// identifier is containerd's rule: alphanumeric parts joined by one of "-_.".
var identifier = regexp.MustCompile(`^[A-Za-z0-9]+(?:[-_.]+[A-Za-z0-9]+)*$`)

type key struct{}

// With returns a context whose requests act in namespace ns.
func With(ctx context.Context, ns string) context.Context {
	return context.WithValue(ctx, key{}, ns)
}

// From returns the namespace of ctx and whether there is one.
func From(ctx context.Context) (string, bool) {
	ns, ok := ctx.Value(key{}).(string)
	return ns, ok && ns != ""
}

// Required returns the valid namespace of ctx, or an error of class
// FailedPrecondition (none) or InvalidArgument (malformed).
func Required(ctx context.Context) (string, error) {
	ns, ok := From(ctx)
	if !ok {
		return "", fmt.Errorf("no namespace given: set the %q header: %w", Header, errdefs.ErrFailedPrecondition)
	}
	if err := Validate(ns); err != nil {
		return "", fmt.Errorf("namespace: %w", err)
	}
	return ns, nil
}

// Validate checks a namespace or container identifier.
func Validate(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("identifier is empty: %w", errdefs.ErrInvalidArgument)
	case len(id) > maxLength:
		return fmt.Errorf("identifier %q has %d characters, at most %d are allowed: %w", id[:maxLength]+"…", len(id), maxLength, errdefs.ErrInvalidArgument)
	case !identifier.MatchString(id):
		return fmt.Errorf("identifier %q must be letters and digits joined by '-', '_' or '.': %w", id, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Info is a namespace as listed.
type Info struct {
	Name   string
	Labels map[string]string
}

// Store keeps the namespaces that exist.
type Store interface {
	// Create adds a namespace; AlreadyExists if it is there.
	Create(ctx context.Context, ns Info) error
	// Update replaces labels: all, or those named by fieldpaths.
	Update(ctx context.Context, ns Info, fieldpaths ...string) (Info, error)
	// Get returns one namespace.
	Get(ctx context.Context, name string) (Info, error)
	// List returns all, sorted by name.
	List(ctx context.Context) ([]Info, error)
	// Delete removes an empty namespace; FailedPrecondition says what is left in it.
	Delete(ctx context.Context, name string) error
}
