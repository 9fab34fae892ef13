package inflate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// Flags of a gzip header (RFC 1952, 2.3.1).
const (
	flagCRC     = 1 << 1
	flagExtra   = 1 << 2
	flagName    = 1 << 3
	flagComment = 1 << 4
)

// maxText bounds a name or comment in a header, as compress/gzip does.
const maxText = 512

// peek returns the next n bytes without using them; n is at most inSize.
func (r *Reader) peek(n int) ([]byte, error) {
	for r.end-r.pos < n {
		if err := r.fill(); err != nil {
			return nil, early(err)
		}
	}
	return r.in[r.pos : r.pos+n], nil
}

// nextMember begins the member after one that has ended, or ends the stream.
func (r *Reader) nextMember() error {
	if r.pos == r.end {
		err := r.fill()
		if err == io.EOF {
			r.state = atEnd
		}
		if err != nil {
			return err
		}
	}
	return r.header()
}

// header reads a member's header, which must be there. An empty input is io.EOF.
func (r *Reader) header() error {
	if r.pos == r.end {
		if err := r.fill(); err != nil {
			return err
		}
	}
	h, err := r.peek(10)
	if err != nil {
		return err
	}
	if h[0] != 0x1f || h[1] != 0x8b || h[2] != 8 {
		return fmt.Errorf("%w: begins with %x", ErrHeader, h[:3])
	}
	sum := crc32.ChecksumIEEE(h)
	flags := h[3]
	r.pos += 10
	if flags&flagExtra != 0 {
		n, err := r.peek(2)
		if err != nil {
			return err
		}
		size := 2 + int(binary.LittleEndian.Uint16(n))
		if n, err = r.peek(size); err != nil {
			return err
		}
		sum = crc32.Update(sum, crc32.IEEETable, n)
		r.pos += size
	}
	for _, flag := range []byte{flagName, flagComment} {
		if flags&flag != 0 {
			if sum, err = r.text(sum); err != nil {
				return err
			}
		}
	}
	if flags&flagCRC != 0 {
		n, err := r.peek(2)
		if err != nil {
			return err
		}
		if binary.LittleEndian.Uint16(n) != uint16(sum) {
			return fmt.Errorf("%w: its own checksum is wrong", ErrHeader)
		}
		r.pos += 2
	}
	r.state, r.base, r.sum, r.size = atBlock, r.w, 0, 0
	return nil
}

// text skips a string that ends in a zero.
func (r *Reader) text(sum uint32) (uint32, error) {
	for n := 1; n <= maxText; n++ {
		p, err := r.peek(n)
		if err != nil {
			return 0, err
		}
		if i := bytes.IndexByte(p[n-1:], 0); i >= 0 {
			r.pos += n
			return crc32.Update(sum, crc32.IEEETable, p), nil
		}
	}
	return 0, fmt.Errorf("%w: a text above %d bytes", ErrHeader, maxText)
}

// trailer compares length and checksum.
func (r *Reader) trailer() error {
	r.align()
	r.addSum()
	t, err := r.peek(8)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(t) != r.sum || binary.LittleEndian.Uint32(t[4:]) != r.size {
		return ErrChecksum
	}
	r.pos += 8
	r.state = atHeader
	return nil
}
