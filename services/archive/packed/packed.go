// Package packed opens the archives that people send, which may be compressed by more
// than layers of images are: besides gzip and zstd there are bzip2 and xz, of which
// each is known by its first bytes.
package packed

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/internal/inflate"
	"github.com/orlop/orlop/internal/unxz"
	"github.com/orlop/orlop/snapshotters/layer"
)

const (
	// maxDict bounds the memory of an xz file, in bytes: 64 MiB is what the program's
	// highest level takes, and 128 MiB what zstd's do.
	maxDict = 128 << 20
	// bzipMagic is followed by the size of blocks: up to 900 kB, and thus 4 MB of memory.
	bzipMagic = "BZh"
	// readAhead is how many bytes are read at once.
	readAhead = 64 << 10
)

// Open opens an archive that may be compressed. The output is endless if the input says
// so: bound it. A damaged one is ErrInvalidArgument. A goroutine may read r ahead, until
// the end or Close, after which one read may still be under way; r isn't closed.
func Open(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, readAhead)
	head, err := in.Peek(len(unxz.Magic))
	if err != nil && err != io.EOF {
		return nil, err
	}
	var out io.ReadCloser
	switch head := string(head); {
	case strings.HasPrefix(head, bzipMagic):
		out = io.NopCloser(bzip2.NewReader(in))
	case head == unxz.Magic:
		var z *unxz.Reader
		if z, err = unxz.New(in, maxDict); err == nil {
			out = io.NopCloser(z)
		}
	default:
		out, err = layer.Decompress(in, "")
	}
	if err != nil {
		return nil, classed(err)
	}
	return &reader{out}, nil
}

// reader gives errors their class.
type reader struct{ io.ReadCloser }

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, classed(err)
}

// classed gives the class of a caller's mistake to what the bytes are to blame for.
func classed(err error) error {
	var bzip bzip2.StructuralError
	is := func(e error) bool { return errors.Is(err, e) }
	if errors.As(err, &bzip) || slices.ContainsFunc(mistakes, is) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return err
}

// mistakes are errors of archives.
var mistakes = []error{io.ErrUnexpectedEOF, unxz.ErrCorrupt, unxz.ErrLimit, unxz.ErrUnsupported, inflate.ErrHeader, inflate.ErrChecksum, inflate.ErrCorrupt}
