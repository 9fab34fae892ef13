package tarstream

import (
	"bytes"
	"strings"
	"time"
)

// block is a header of 512 bytes. Field positions are those of POSIX.1 ustar
// and of GNU tar.
type block []byte

func (b block) name() []byte     { return cstring(b[0:100]) }
func (b block) linkname() []byte { return cstring(b[157:257]) }
func (b block) typeflag() byte   { return b[156] }
func (b block) prefix() []byte   { return cstring(b[345:500]) }

// isPOSIX is told by the magic "ustar\0"; GNU's ends in blanks and has other
// fields where POSIX has the name's prefix.
func (b block) isPOSIX() bool { return string(b[257:263]) == "ustar\x00" }
func (b block) isGNU() bool   { return string(b[257:265]) == "ustar  \x00" }

func (b block) isZero() bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func (b block) isExtension() bool {
	switch b.typeflag() {
	case typePAX, typeGlobalPAX, typeLongName, typeLongLink:
		return true
	}
	return false
}

// sumMatches accepts the sum over unsigned bytes, and the one over signed bytes
// that some old programs wrote.
func (b block) sumMatches() bool {
	want, ok := octal(b[148:156])
	if !ok {
		return false
	}
	var unsigned, signed int64
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return want == unsigned || want == signed
}

// member makes the Entry of a header and of the extensions read before it, and
// consumes the header.
func (t *Reader) member(b block) (*Entry, error) {
	e := &t.entry
	*e = Entry{Xattrs: e.Xattrs[:0], Data: e.Data[:0]}
	n, ok := b.numbers()
	if !ok {
		return nil, t.bad("a number in a header is not one", nil)
	}
	e.Name, e.Linkname = t.names(b)
	e.Type, e.Mode = b.typeflag(), uint32(n.mode)&0o7777
	e.Major, e.Minor = uint32(n.major), uint32(n.minor)
	e.ModTime = time.Unix(n.mtime, 0)
	sparseBlock := b.typeflag() == typeGNUSparse && b.isGNU()
	var old oldSparse
	if sparseBlock {
		old = parseOldSparse(b)
	}
	t.advance(blockSize) // b is not valid from here
	if err := t.applyExtension(e, &n); err != nil {
		return nil, err
	}
	if n.size < 0 || n.uid < 0 || n.gid < 0 || n.uid >= 1<<32-1 || n.gid >= 1<<32-1 {
		return nil, t.bad("size or owner out of range", nil)
	}
	e.UID, e.GID = uint32(n.uid), uint32(n.gid)
	e.settleType()
	if e.Type != TypeReg && e.Type != typeGNUSparse {
		n.size = 0 // links, directories and devices have no data whatever they say
		return t.finish(e, 0)
	}
	t.left = padded(n.size)
	if t.left < n.size {
		return nil, t.bad("size out of range", nil)
	}
	e.Size = n.size
	if err := t.sparse(e, sparseBlock, old); err != nil {
		return nil, err
	}
	return t.finish(e, n.size)
}

// finish gives a plain file its one extent.
func (t *Reader) finish(e *Entry, stored int64) (*Entry, error) {
	if e.Type == typeGNUSparse {
		e.Type = TypeReg
	}
	if !e.Sparse && stored > 0 {
		e.Data = append(e.Data, Extent{Stream: t.pos, Len: stored})
	}
	return e, nil
}

// settleType maps what old archives do: a regular file called "x/" is a
// directory, NUL and '7' are regular files.
func (e *Entry) settleType() {
	switch e.Type {
	case 0, typeContiguous:
		e.Type = TypeReg
	}
	if e.Type == TypeReg && strings.HasSuffix(e.Name, "/") {
		e.Type = TypeDir
	}
}

func (t *Reader) names(b block) (name, link string) {
	name, link = t.ext.longName, t.ext.longLink
	if name == "" {
		name = string(b.name())
		if p := b.prefix(); b.isPOSIX() && len(p) > 0 {
			name = string(p) + "/" + name
		}
	}
	if link == "" {
		link = string(b.linkname())
	}
	return name, link
}

type numbers struct {
	mode, uid, gid, size, mtime, major, minor int64
}

func (b block) numbers() (n numbers, ok bool) {
	ok = true
	get := func(field []byte) int64 {
		v, good := number(field)
		ok = ok && good
		return v
	}
	n.mode = get(b[100:108])
	n.uid = get(b[108:116])
	n.gid = get(b[116:124])
	n.size = get(b[124:136])
	n.mtime = get(b[136:148])
	if t := b.typeflag(); (t == TypeChar || t == TypeBlock) && (b.isPOSIX() || b.isGNU()) {
		n.major = get(b[329:337])
		n.minor = get(b[337:345])
	}
	return n, ok
}

// number reads an octal or, with the top bit set, a base-256 field.
func number(f []byte) (int64, bool) {
	if f[0]&0x80 == 0 {
		return octal(f)
	}
	// Two's complement, big endian, 7 bits of the first byte.
	var inv byte
	if f[0]&0x40 != 0 {
		inv = 0xff
	}
	var x uint64
	for i, c := range f {
		c ^= inv
		if i == 0 {
			c &= 0x7f
		}
		if x>>56 > 0 {
			return 0, false
		}
		x = x<<8 | uint64(c)
	}
	if x>>63 > 0 {
		return 0, false
	}
	if inv == 0xff {
		return ^int64(x), true
	}
	return int64(x), true
}

func octal(f []byte) (int64, bool) {
	f = bytes.Trim(f, " \x00")
	if i := bytes.IndexByte(f, 0); i >= 0 {
		f = f[:i]
	}
	if len(f) > 21 {
		return 0, false
	}
	var x int64
	for _, c := range f {
		if c < '0' || c > '7' {
			return 0, false
		}
		x = x<<3 | int64(c-'0')
	}
	return x, x >= 0
}

func cstring(f []byte) []byte {
	if i := bytes.IndexByte(f, 0); i >= 0 {
		return f[:i]
	}
	return f
}

func padded(n int64) int64 { return (n + blockSize - 1) &^ (blockSize - 1) }
