// Package volume is the vocabulary of volumes: folders that outlive the containers
// that use them.
package volume

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/containerd/errdefs"
)

// Local is the name of the driver that keeps volumes in folders of this host.
const Local = "local"

// Volume is what is recorded of a volume. Options and labels are kept exactly as
// they were given: nil and empty differ to clients.
type Volume struct {
	Name    string
	Driver  string
	Options map[string]string `json:",omitempty"`
	Labels  map[string]string
	// Anonymous volumes got their name from us, for one container; those are what a
	// prune removes if it isn't told to remove all.
	Anonymous bool `json:",omitempty"`
	Created   time.Time
}

// Store keeps the records of the context's namespace.
type Store interface {
	// Create adds a record; one that is there is AlreadyExists.
	Create(ctx context.Context, v Volume) error
	// Get returns a record; one that isn't there is NotFound.
	Get(ctx context.Context, name string) (Volume, error)
	// List returns all, sorted by name.
	List(ctx context.Context) ([]Volume, error)
	// Delete removes a record; one that isn't there is NotFound.
	Delete(ctx context.Context, name string) error
}

// nameChars is Docker's rule for names of volumes; they are names of folders, too.
const nameChars = "[a-zA-Z0-9][a-zA-Z0-9_.-]"

var validName = regexp.MustCompile("^" + nameChars + "+$")

// maxName is the kernel's bound of a file's name, 255 bytes, with room for a number.
const maxName = 240

// ValidateName refuses what can't be a volume's name, as InvalidArgument in Docker's
// words.
func ValidateName(name string) error {
	switch {
	case len(name) == 1:
		return &nameError{"volume name is too short, names should be at least two alphanumeric characters"}
	case len(name) > maxName:
		return &nameError{fmt.Sprintf("volume name of %d bytes is too long, at most %d are allowed", len(name), maxName)}
	case !validName.MatchString(name):
		return &nameError{fmt.Sprintf("%q includes invalid characters for a local volume name, only %q are allowed. If you intended to pass a host directory, use absolute path", name, nameChars)}
	}
	return nil
}

// nameError keeps its text as it is for clients.
type nameError struct{ text string }

// Error returns the text.
func (e *nameError) Error() string { return e.text }

// Unwrap returns the class.
func (e *nameError) Unwrap() error { return errdefs.ErrInvalidArgument }
