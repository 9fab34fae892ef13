package volume

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// wordError is an error whose text clients compare; its class is one of errdefs'.
type wordError struct {
	text  string
	class error
}

// Error returns the text alone.
func (e *wordError) Error() string { return e.text }

// Unwrap returns the class.
func (e *wordError) Unwrap() error { return e.class }

func notFound(format string, args ...any) error {
	return &wordError{fmt.Sprintf(format, args...), errdefs.ErrNotFound}
}

func conflict(format string, args ...any) error {
	return &wordError{fmt.Sprintf(format, args...), errdefs.ErrConflict}
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
