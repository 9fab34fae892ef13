package network

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/worded"
)

// refuse is an error in the words that clients compare.
func refuse(class error, format string, args ...any) error { return worded.New(class, format, args...) }

// told is an error of a driver, of addresses or of a value, in the words for people: the
// network or endpoint of that ID, which it is about, is known, and its class is told
// otherwise.
func told(err error, id string) error {
	var n *strconv.NumError
	if errors.As(err, &n) {
		return refuse(errdefs.ErrInvalidArgument, "%v", n.Err)
	}
	text := err.Error()
	for _, what := range []string{"network", "endpoint"} {
		text = strings.TrimPrefix(text, fmt.Sprintf("%s %q: ", what, id))
	}
	for _, class := range []error{errdefs.ErrInvalidArgument, errdefs.ErrAlreadyExists, errdefs.ErrNotImplemented} {
		if errors.Is(err, class) {
			text = strings.TrimSuffix(text, ": "+class.Error())
		}
	}
	return refuse(err, "%s", text)
}
