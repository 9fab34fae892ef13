package volume

import (
	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/worded"
)

func notFound(format string, args ...any) error {
	return worded.New(errdefs.ErrNotFound, format, args...)
}

func conflict(format string, args ...any) error {
	return worded.New(errdefs.ErrConflict, format, args...)
}

// opError says in Docker's form what was being done: "remove NAME: why".
type opError struct {
	what string
	why  error
}

// Error returns both.
func (e *opError) Error() string { return e.what + ": " + e.why.Error() }

// Unwrap returns why.
func (e *opError) Unwrap() error { return e.why }
