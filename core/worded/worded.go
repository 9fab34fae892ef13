// Package worded is errors whose text is for the client as it is: people read it,
// and programs compare it with what the Engine of Docker says.
package worded

import "fmt"

// Error is such an error. Its class is one of errdefs', which decides what becomes of
// it at the edges.
type Error struct {
	text  string
	class error
}

// New makes one.
func New(class error, format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), class}
}

// Error returns the text alone, without the class.
func (e *Error) Error() string { return e.text }

// Unwrap returns the class.
func (e *Error) Unwrap() error { return e.class }
