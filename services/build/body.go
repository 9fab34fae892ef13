package build

import (
	"errors"
	"io"

	"github.com/orlop/orlop/services/archive/packed"
)

// plainBody opens a context, which may be compressed: the solver would need programs for
// some of it. It may be nil.
func plainBody(body io.ReadCloser) (io.ReadCloser, error) {
	if body == nil {
		return nil, nil
	}
	plain, err := packed.Open(body)
	if err != nil {
		return nil, err
	}
	return &opening{plain, body}, nil
}

// opening is an archive with what it is read from.
type opening struct {
	io.ReadCloser
	body io.Closer
}

// Close closes both.
func (o *opening) Close() error { return errors.Join(o.ReadCloser.Close(), o.body.Close()) }
