package engine

import "context"

// Networks connects containers to networks other than the host's, none and that
// of another container. It is a part of the engine that may be absent.
type Networks interface {
	// Valid checks, before a container is made, that the network exists.
	Valid(ctx context.Context, network string) error
	// Join makes the namespace of a container that is about to start and
	// connects it; the path is that of the namespace. A second Join for a
	// container that is connected returns the same.
	Join(ctx context.Context, id, network string) (path string, err error)
	// Leave undoes Join when the container has ended. What is gone is no error.
	Leave(ctx context.Context, id string) error
}
