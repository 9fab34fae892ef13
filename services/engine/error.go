package engine

import (
	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/worded"
)

func notFound(format string, args ...any) error {
	return worded.New(errdefs.ErrNotFound, format, args...)
}

func invalid(format string, args ...any) error {
	return worded.New(errdefs.ErrInvalidArgument, format, args...)
}

func conflict(format string, args ...any) error {
	return worded.New(errdefs.ErrConflict, format, args...)
}

func missing(format string, args ...any) error {
	return worded.New(errdefs.ErrNotImplemented, format, args...)
}

func denied(format string, args ...any) error {
	return worded.New(errdefs.ErrPermissionDenied, format, args...)
}

// errUnchanged says that there was nothing to do.
var errUnchanged = worded.New(errdefs.ErrNotModified, "nothing to do")
