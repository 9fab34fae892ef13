package unxz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

const (
	// workFactor and freeWork bound the work of preparing dictionaries, which costs as
	// much as they are large, for blocks that then hold little.
	workFactor = 256
	freeWork   = 4 << 30
	// minDict is the least that LZMA2's reader takes.
	minDict = lzma.MinDictCap
	// lzma2 is the number of the filter.
	lzma2 = 0x21
	// unknown is a size that a block's header doesn't tell.
	unknown = ^uint64(0)
)

var ecma = crc64.MakeTable(crc64.ECMA)

// block is an open one.
type block struct {
	in         *input
	lzma       *lzma.Reader2
	sum        hash.Hash // nil: the stream has no checks
	header     int64     // the size of its header
	start, out int64     // where its data begin in the file; how many it has become
	// packed and plain are the sizes that the header tells, or unknown.
	packed, plain uint64
}

// open reads the header of a block; size is its first byte.
func (z *Reader) open(size byte) error {
	h := make([]byte, (int(size)+1)*4)
	h[0] = size
	if err := z.in.full(h[1:]); err != nil {
		return err
	}
	end := len(h) - 4
	if crc32.ChecksumIEEE(h[:end]) != binary.LittleEndian.Uint32(h[end:]) {
		return corrupt("a block's header")
	}
	b := &block{in: z.in, header: int64(len(h)), start: z.in.n}
	dict, err := b.parse(h[1:end])
	if err != nil {
		return err
	}
	if b.sum, err = newSum(z.check); err != nil {
		return err
	}
	if b.plain != unknown {
		dict = min(dict, b.plain)
	}
	if dict > uint64(z.maxDict) {
		return fmt.Errorf("%w: its dictionary of %d bytes is larger than %d", ErrLimit, dict, z.maxDict)
	}
	dict = max(dict, minDict)
	if z.work += int64(dict); z.work > freeWork {
		return fmt.Errorf("%w: its blocks hold too little for their dictionaries", ErrLimit)
	}
	b.lzma, err = lzma.Reader2Config{DictCap: int(dict)}.NewReader2(z.in)
	z.block = b
	return err
}

// parse reads a header without its size and sum, and returns the size of the dictionary.
func (b *block) parse(h []byte) (uint64, error) {
	flags, in := h[0], bytes.NewReader(h[1:])
	if flags&0x3c != 0 {
		return 0, fmt.Errorf("%w: flags %#x of a block", ErrUnsupported, flags)
	}
	b.packed, b.plain = unknown, unknown
	for _, f := range []struct {
		flag byte
		to   *uint64
	}{{0x40, &b.packed}, {0x80, &b.plain}} {
		var err error
		if flags&f.flag != 0 {
			if *f.to, err = number(in); err != nil {
				return 0, err
			}
		}
	}
	filter, err := number(in)
	if err != nil {
		return 0, err
	}
	if flags&3 != 0 || filter != lzma2 {
		return 0, fmt.Errorf("%w: filters other than LZMA2", ErrUnsupported)
	}
	size, err := number(in)
	if err != nil {
		return 0, err
	}
	bits, err := in.ReadByte()
	if err != nil || size != 1 || bits > 40 {
		return 0, corrupt("LZMA2's properties")
	}
	for in.Len() > 0 {
		if x, _ := in.ReadByte(); x != 0 {
			return 0, corrupt("padding of a block's header")
		}
	}
	if bits == 40 {
		return 1<<32 - 1, nil
	}
	return uint64(2|bits&1) << (bits/2 + 11), nil
}

// newSum is what blocks are checked by.
func newSum(check byte) (hash.Hash, error) {
	switch check {
	case 0:
		return nil, nil
	case 1:
		return crc32.NewIEEE(), nil
	case 4:
		return crc64.New(ecma), nil
	case 10:
		return sha256.New(), nil
	}
	return nil, fmt.Errorf("%w: check of kind %d", ErrUnsupported, check)
}

// Read reads what the block holds, which is not checked before its end.
func (b *block) Read(p []byte) (int, error) {
	n, err := b.lzma.Read(p)
	b.out += int64(n)
	if b.sum != nil {
		b.sum.Write(p[:n])
	}
	if b.plain != unknown && uint64(b.out) > b.plain || b.packed != unknown && uint64(b.in.n-b.start) > b.packed {
		return 0, corrupt("a block is larger than its header tells")
	}
	switch err {
	case nil, io.EOF, io.ErrUnexpectedEOF:
		return n, err
	}
	return n, fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// end checks what the block was, and returns its size without padding, as the index has
// it.
func (b *block) end() (uint64, error) {
	packed := uint64(b.in.n - b.start)
	if b.plain != unknown && uint64(b.out) != b.plain || b.packed != unknown && packed != b.packed {
		return 0, corrupt("a block is smaller than its header tells")
	}
	var padding [3]byte
	if err := b.in.full(padding[:-packed&3]); err != nil {
		return 0, err
	}
	if padding != [3]byte{} {
		return 0, corrupt("padding of a block")
	}
	if b.sum == nil {
		return uint64(b.header) + packed, nil
	}
	want := b.sum.Sum(nil)
	have := make([]byte, len(want))
	if err := b.in.full(have); err != nil {
		return 0, err
	}
	if b.sum.Size() < sha256.Size { // CRCs are in the other order
		for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
			want[i], want[j] = want[j], want[i]
		}
	}
	if !bytes.Equal(have, want) {
		return 0, corrupt("a block's sum")
	}
	return uint64(b.header) + packed + uint64(len(want)), nil
}
