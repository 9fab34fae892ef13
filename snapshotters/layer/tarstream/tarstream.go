// Package tarstream reads a layer's tar in one pass, without seeking, and tells
// where in the stream each byte of each file lies.
//
// It exists beside archive/tar for three reasons: EROFS layers keep the tar as
// their data and need the position of every extent; a sparse file of a terabyte
// must cost as much as its data, where archive/tar hands out the zeros; and what
// an image may make us allocate has to be a number we choose.
//
// Understood are V7, USTAR, PAX and GNU archives, with long names and links,
// base-256 numbers, extended attributes (SCHILY.xattr) and the GNU sparse
// formats: old, 0.0, 0.1 and 1.0. Global PAX headers are read and ignored, as
// the other engines do.
//
// A Reader is for one goroutine. The Entry that Next returns, and everything it
// points to, is good until the following Next.
package tarstream

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Types of entries. Regular files of old archives are given as TypeReg.
const (
	TypeReg     byte = '0'
	TypeLink    byte = '1'
	TypeSymlink byte = '2'
	TypeChar    byte = '3'
	TypeBlock   byte = '4'
	TypeDir     byte = '5'
	TypeFifo    byte = '6'

	typeContiguous byte = '7'
	typePAX        byte = 'x'
	typeGlobalPAX  byte = 'g'
	typeLongName   byte = 'L'
	typeLongLink   byte = 'K'
	typeGNUSparse  byte = 'S'
)

// Limits of one archive. They bound memory, not what an archive may unpack to.
const (
	// MaxHeader is the most bytes of one extension header (PAX, GNU long name).
	MaxHeader = 1 << 20
	// MaxExtents is the most data extents of one sparse file.
	MaxExtents = 1 << 17

	blockSize  = 512
	bufferSize = 256 << 10
)

// ErrFormat is the class of all errors about malformed archives.
var ErrFormat = errors.New("malformed tar")

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value string
}

// Extent is a run of a file's bytes: at Logical in the file, at Stream in the
// uncompressed tar.
type Extent struct {
	Logical, Stream, Len int64
}

// Entry is one member of the archive.
type Entry struct {
	Name     string // as written; may be absolute or hold ".."
	Linkname string
	Type     byte
	Mode     uint32 // permission, setuid, setgid and sticky bits
	UID, GID uint32
	Size     int64 // of the file, holes included
	ModTime  time.Time
	Major    uint32
	Minor    uint32
	Xattrs   []Xattr
	Data     []Extent // in order; what lies between them reads as zeros
	Sparse   bool
}

// Reader reads one archive.
type Reader struct {
	src   io.Reader
	buf   []byte
	r, w  int
	pos   int64 // stream offset of buf[r]
	err   error // sticky error of src
	left  int64 // bytes of the current entry not yet consumed, with padding
	done  bool
	entry Entry
	ext   extension
	heap  []byte // for extension headers
}

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// NewReader reads the archive in src. Close gives its buffer back.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: *buffers.Get().(*[]byte)}
}

// Close ends the use of the Reader. It doesn't close the source.
func (t *Reader) Close() {
	if t.buf != nil {
		b := t.buf
		t.buf, t.done, t.err = nil, true, io.EOF
		t.r, t.w = 0, 0
		buffers.Put(&b)
	}
}

// Offset is the position in the stream of what is read next.
func (t *Reader) Offset() int64 { return t.pos }

// Next skips what is left of the current entry and returns the following one,
// or io.EOF after the last.
func (t *Reader) Next() (*Entry, error) {
	if t.done {
		return nil, io.EOF
	}
	if err := t.skip(t.left); err != nil {
		return nil, t.bad("data cut short", err)
	}
	t.left = 0
	t.ext.reset()
	for {
		hdr, err := t.header()
		if err != nil {
			return nil, err
		}
		if !hdr.isExtension() {
			return t.member(hdr)
		}
		if err := t.readExtension(hdr); err != nil {
			return nil, err
		}
	}
}

// header returns the next header block, io.EOF at the end mark or at a clean
// end of the stream.
func (t *Reader) header() (block, error) {
	b, err := t.need(blockSize)
	if err == io.EOF && t.w == t.r {
		t.done = true
		return nil, io.EOF
	}
	if err != nil {
		return nil, t.bad("header cut short", err)
	}
	hdr := block(b)
	if hdr.isZero() {
		t.done = true
		return nil, io.EOF
	}
	if !hdr.sumMatches() {
		return nil, t.bad("wrong header checksum", nil)
	}
	return hdr, nil
}

// Each calls fn with the entry's data in pieces, in order; off is the position
// in the file. The piece is good until fn returns.
func (t *Reader) Each(fn func(off int64, p []byte) error) error {
	for _, x := range t.entry.Data {
		if err := t.skip(x.Stream - t.pos); err != nil {
			return t.bad("data cut short", err)
		}
		for off := int64(0); off < x.Len; {
			p, err := t.some(x.Len - off)
			if err != nil {
				return t.bad("data cut short", err)
			}
			if err := fn(x.Logical+off, p); err != nil {
				return err
			}
			off += int64(len(p))
			t.advance(len(p))
		}
	}
	return nil
}

// Drain reads the source to its end, past the archive's end mark, so that a
// digest taken of it is complete.
func (t *Reader) Drain() error {
	for {
		t.advance(t.w - t.r)
		if err := t.fill(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// need returns n bytes without consuming them; n is at most the buffer's size.
func (t *Reader) need(n int) ([]byte, error) {
	for t.w-t.r < n {
		if err := t.fill(); err != nil {
			return nil, err
		}
	}
	return t.buf[t.r : t.r+n], nil
}

// some returns between one and limit bytes without consuming them.
func (t *Reader) some(limit int64) ([]byte, error) {
	want := int(min(limit, int64(len(t.buf))))
	for t.w-t.r < want {
		if err := t.fill(); err != nil {
			return nil, err
		}
	}
	return t.buf[t.r : t.r+want], nil
}

// fill reads more from the source, moving what is there to the front if room
// runs out.
func (t *Reader) fill() error {
	if t.err != nil {
		return t.err
	}
	if t.r == t.w {
		t.r, t.w = 0, 0
	} else if t.r > 0 && len(t.buf)-t.w < len(t.buf)/2 {
		t.w = copy(t.buf, t.buf[t.r:t.w])
		t.r = 0
	}
	for range 100 {
		n, err := t.src.Read(t.buf[t.w:])
		t.w += n
		t.err = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	t.err = io.ErrNoProgress
	return t.err
}

func (t *Reader) advance(n int) {
	t.r += n
	t.pos += int64(n)
	t.left -= int64(n)
}

func (t *Reader) skip(n int64) error {
	for n > 0 {
		if t.r == t.w {
			if err := t.fill(); err != nil {
				return err
			}
		}
		k := int(min(n, int64(t.w-t.r)))
		t.advance(k)
		n -= int64(k)
	}
	return nil
}

// bad says what is wrong at this place. A source's own error is kept, and an
// end of the source is an unexpected one.
func (t *Reader) bad(what string, err error) error {
	switch {
	case err == nil:
		return fmt.Errorf("%w at byte %d: %s", ErrFormat, t.pos, what)
	case err == io.EOF:
		return fmt.Errorf("%w at byte %d: %s: %w", ErrFormat, t.pos, what, io.ErrUnexpectedEOF)
	}
	return err
}
