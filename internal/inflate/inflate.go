// Package inflate decompresses gzip (RFC 1952, RFC 1951), twice as fast
// as the libraries in Go that it was measured against. It takes
// what compress/gzip takes and refuses what that refuses.
//
// # How
//
// A buffer of 64 bits is filled without branches and serves up to three literal
// lookups, or a length and a distance. A lookup in the first table of literals
// yields one or two literals at once. Matches are copied in words, by classes of
// overlap. Input and output lie in arrays of fixed size with room to spare behind
// what is indexed, so that the compiler proves most indexes in range, and the
// rest is checked once a round. Where fewer than 16 bytes of input are left,
// a slow loop takes over, which counts every bit.
//
// # Lifecycle and bounds
//
// A Reader holds about 420 KiB, whatever the input says, and can be used again by
// Reset. Output is endless if the input says so: the caller bounds it. A Reader
// is for one goroutine.
package inflate

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Errors of bad input. An input that ends early is [io.ErrUnexpectedEOF].
var (
	// ErrHeader is the class of errors about gzip headers.
	ErrHeader = errors.New("gzip: invalid header")
	// ErrChecksum says that length or CRC-32 of a member are not as its trailer says.
	ErrChecksum = errors.New("gzip: invalid checksum")
	// ErrCorrupt is the class of errors about compressed data.
	ErrCorrupt = errors.New("deflate: corrupt data")
)

// Sizes of the two arrays. Indexes are masked with size-1; what lies behind is
// the room that words may reach over.
const (
	inSize  = 128 << 10
	outSize = 256 << 10
	slack   = 1 << 10

	window   = 32 << 10 // how far back a match may reach (RFC 1951)
	maxMatch = 258
	// outLimit is where decoding stops for the output to be taken: a round writes
	// at most six literals and a match, and words reach 16 bytes further.
	outLimit = outSize - maxMatch - 64
)

// Reader decompresses the members of a gzip stream, one after another.
type Reader struct {
	src  io.Reader
	err  error // what Read returns once the output is taken
	eof  bool  // src has ended
	zero int   // reads in a row that brought nothing

	state state
	last  bool // the block under way is its member's last
	rest  int  // bytes of a stored block still to be copied

	bits  uint64 // bits of input not yet used, lowest first
	nbits uint64 // how many of them count; only the low 6 bits are the number

	pos, end int // of the input
	base     int // in out: where this member's bytes begin, or the window
	taken    int // in out: what the caller has
	w        int // in out: end of what is decoded
	summed   int // in out: end of what is in sum
	sum      uint32
	size     uint32 // bytes of this member, modulo 2^32

	codes tables
	in    [inSize + slack]byte
	out   [outSize + slack]byte
}

// state is what comes next in the input.
type state uint8

const (
	atHeader state = iota
	atBlock
	inStored
	inCodes
	atTrailer
	atEnd
)

// NewReader reads the first header of src. It may read more of src than belongs
// to the stream.
func NewReader(src io.Reader) (*Reader, error) {
	r := &Reader{}
	return r, r.Reset(src)
}

// Reset makes the Reader read another stream.
func (r *Reader) Reset(src io.Reader) error {
	r.src, r.err, r.eof, r.zero = src, nil, false, 0
	r.state, r.last, r.rest = atHeader, false, 0
	r.bits, r.nbits, r.pos, r.end = 0, 0, 0, 0
	r.base, r.taken, r.w, r.summed = 0, 0, 0, 0
	r.err = r.header()
	return r.err
}

// Read implements [io.Reader].
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.taken == r.w {
		if r.err != nil {
			return 0, r.err
		}
		r.more()
	}
	n := copy(p, r.out[r.taken:r.w])
	r.taken += n
	return n, nil
}

// WriteTo implements [io.WriterTo]. What is written is good until Write returns.
func (r *Reader) WriteTo(dst io.Writer) (int64, error) {
	var total int64
	for {
		if r.taken < r.w {
			n, err := dst.Write(r.out[r.taken:r.w])
			r.taken += n
			total += int64(n)
			if err == nil && r.taken < r.w {
				err = io.ErrShortWrite
			}
			if err != nil {
				return total, err
			}
		}
		if r.err == io.EOF {
			return total, nil
		}
		if r.err != nil {
			return total, r.err
		}
		r.more()
	}
}

// more decodes until the output is full, the stream ends, or an error.
func (r *Reader) more() {
	if r.w >= outLimit {
		r.slide()
	}
	for r.err == nil && r.w < outLimit {
		r.err = r.step()
	}
	r.addSum()
}

// slide moves the window to the front of the output.
func (r *Reader) slide() {
	r.addSum()
	shift := r.w - window
	copy(r.out[:window], r.out[shift:r.w])
	r.base = max(r.base-shift, 0)
	r.w, r.taken, r.summed = window, window, window
}

// addSum takes what was decoded into the member's checksum.
func (r *Reader) addSum() {
	p := r.out[r.summed:r.w]
	r.sum = crc32.Update(r.sum, crc32.IEEETable, p)
	r.size += uint32(len(p))
	r.summed = r.w
}

// step does what comes next, once or as long as there is input and room.
func (r *Reader) step() error {
	switch r.state {
	case atHeader:
		return r.nextMember()
	case atBlock:
		return r.block()
	case inStored:
		return r.stored()
	case inCodes:
		return r.compressed()
	case atTrailer:
		return r.trailer()
	}
	return io.EOF
}

// endBlock tells what follows the block that has just ended.
func (r *Reader) endBlock() {
	r.state = atBlock
	if r.last {
		r.state = atTrailer
	}
}

// maxEmptyReads is how often a source may return nothing and no error, as in bufio.
const maxEmptyReads = 100

// behind is how many used bytes stay in the input, for align to give them back.
const behind = 8

// fill reads once more from the source, io.EOF if there is no more. Bytes not yet
// used move to the front.
func (r *Reader) fill() error {
	if r.eof {
		return io.EOF
	}
	if from := r.pos - behind; from > 0 {
		r.end = copy(r.in[:], r.in[from:r.end])
		r.pos = behind
	}
	for range maxEmptyReads {
		n, err := r.src.Read(r.in[r.end:inSize])
		if n < 0 || n > inSize-r.end {
			return errors.New("inflate: the source counts its bytes wrong")
		}
		r.end += n
		if err == io.EOF {
			r.eof = true
			if n == 0 {
				return io.EOF
			}
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return io.ErrNoProgress
}

// want makes n bits be in the buffer; n is at most 56.
func (r *Reader) want(n uint64) error {
	r.nbits &= 63
	for r.nbits < n {
		if r.pos == r.end {
			if err := r.fill(); err != nil {
				return early(err)
			}
		}
		r.bits |= uint64(r.in[r.pos]) << r.nbits
		r.pos++
		r.nbits += 8
	}
	return nil
}

// take uses n bits, which are in the buffer.
func (r *Reader) take(n uint64) uint64 {
	v := r.bits & (1<<n - 1)
	r.bits >>= n
	r.nbits -= n
	return v
}

// align drops the bits up to the next whole byte and gives back whole bytes.
func (r *Reader) align() {
	r.nbits &= 63
	r.pos -= int(r.nbits / 8)
	r.bits, r.nbits = 0, 0
}

// early makes an end of input an unexpected one.
func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
