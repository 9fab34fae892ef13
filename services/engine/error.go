package engine

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Error is an error whose text is for the client as it is; its class is one of
// errdefs'.
type Error struct {
	text  string
	class error
}

// Error returns the text alone: clients compare it.
func (e *Error) Error() string { return e.text }

// Unwrap returns the class.
func (e *Error) Unwrap() error { return e.class }

func notFound(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), errdefs.ErrNotFound}
}

func invalid(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument}
}

func conflict(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), errdefs.ErrConflict}
}

func missing(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), errdefs.ErrNotImplemented}
}

func denied(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), errdefs.ErrPermissionDenied}
}

// errUnchanged says that there was nothing to do.
var errUnchanged = &Error{"nothing to do", errdefs.ErrNotModified}
