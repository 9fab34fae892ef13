package runtime

import (
	"errors"
	"fmt"
)

// Classes of errors; test with errors.Is.
var (
	// ErrExists says that the container id is taken.
	ErrExists = errors.New("container exists already")
	// ErrNotFound says that there is no such container.
	ErrNotFound = errors.New("container does not exist")
	// ErrInvalidSpec says that the configuration cannot be followed.
	ErrInvalidSpec = errors.New("invalid configuration")
	// ErrState says that the container is in the wrong state for the request.
	ErrState = errors.New("wrong container state")
	// ErrCommandNotFound says that the program to run is not there (exit status 127).
	ErrCommandNotFound = errors.New("command not found")
	// ErrCommandNotExecutable says that the program may not be run (exit status 126).
	ErrCommandNotExecutable = errors.New("command not executable")
	// ErrUnsupported says that the host or this runtime lacks a feature that
	// was asked for.
	ErrUnsupported = errors.New("not supported")
)

// classed is an error with a text of its own that also is of a class.
type classed struct {
	error
	class error
}

func (e classed) Unwrap() []error { return []error{e.error, e.class} }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalidSpec, fmt.Errorf(format, args...))
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnsupported, fmt.Errorf(format, args...))
}
