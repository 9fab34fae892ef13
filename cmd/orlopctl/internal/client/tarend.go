package client

import (
	"archive/tar"
	"bytes"
	"io"
	"strconv"
	"strings"
)

// tarBlock is the unit of the tar format.
const tarBlock = 512

// tarEnd passes an archive on and knows when it has seen its end: two blocks of
// zeros where a header belongs. Daemons don't all close the stream of an export,
// and the answer to the call may overtake the stream's last bytes.
type tarEnd struct {
	w      io.Writer
	header []byte // of the block being read
	skip   int64  // bytes of content and padding still to come
	zeros  int    // blocks of zeros in a row
	err    error
}

// ended reports whether the whole archive was written.
func (t *tarEnd) ended() bool { return t.zeros >= 2 }

// Write implements io.Writer.
func (t *tarEnd) Write(p []byte) (int, error) {
	t.scan(p)
	if t.err != nil {
		return 0, t.err
	}
	return t.w.Write(p)
}

func (t *tarEnd) scan(p []byte) {
	for len(p) > 0 && !t.ended() && t.err == nil {
		if t.skip > 0 {
			n := min(t.skip, int64(len(p)))
			t.skip, p = t.skip-n, p[n:]
			continue
		}
		n := min(tarBlock-len(t.header), len(p))
		t.header, p = append(t.header, p[:n]...), p[n:]
		if len(t.header) == tarBlock {
			t.block()
			t.header = t.header[:0]
		}
	}
}

// block takes a header: it tells how much content follows.
func (t *tarEnd) block() {
	if bytes.Count(t.header, []byte{0}) == tarBlock {
		t.zeros++
		return
	}
	t.zeros = 0
	field := t.header[124:136] // the size, in octal or, for large files, in base 256
	if field[0]&0x80 != 0 {
		for _, b := range field[4:] {
			t.skip = t.skip<<8 | int64(b)
		}
	} else {
		size, err := strconv.ParseInt(strings.Trim(string(field), " \x00"), 8, 63)
		if err != nil {
			t.err = tar.ErrHeader
			return
		}
		t.skip = size
	}
	t.skip = (t.skip + tarBlock - 1) &^ (tarBlock - 1)
}
