package network

import "fmt"

// Error is an error whose text is for the client as it is: programs compare it. Its
// class is one of errdefs'.
type Error struct {
	text  string
	class error
}

// Error returns the text alone.
func (e *Error) Error() string { return e.text }

// Unwrap returns the class.
func (e *Error) Unwrap() error { return e.class }

func refuse(class error, format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), class}
}
