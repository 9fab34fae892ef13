// Package unxz decompresses xz files (the .xz File Format, version 1.1.0) in bounded
// memory. The dictionary that a file wants is bounded, and of its index, which grows
// with the file, only a hash is kept. LZMA2 itself is a library's.
//
// A [Reader] is for one goroutine. Concatenated files are one, as for the xz program.
package unxz

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// Magic is how an xz file begins.
const Magic = "\xfd7zXZ\x00"

var (
	// ErrCorrupt is for what is no xz file, or a damaged one.
	ErrCorrupt = errors.New("xz: corrupt")
	// ErrLimit is for a file that would take more memory or work than it may.
	ErrLimit = errors.New("xz: limit")
	// ErrUnsupported is for a file with filters or checks that aren't known here.
	ErrUnsupported = errors.New("xz: unsupported")
)

// Reader decompresses.
type Reader struct {
	in      *input
	maxDict int
	err     error

	check byte // of the stream: the kind of its blocks' checks
	block *block
	index hash.Hash // of the records of the stream's blocks
	count uint64    // of those
	work  int64     // what has been spent on dictionaries and not been used, in bytes
}

// input counts what is read.
type input struct {
	*bufio.Reader
	n int64
}

// Read implements [io.Reader].
func (i *input) Read(p []byte) (int, error) {
	n, err := i.Reader.Read(p)
	i.n += int64(n)
	return n, err
}

// ReadByte implements [io.ByteReader].
func (i *input) ReadByte() (byte, error) {
	b, err := i.Reader.ReadByte()
	if err == nil {
		i.n++
	}
	return b, err
}

// full reads all of p. A file that ends in it ends early.
func (i *input) full(p []byte) error {
	_, err := io.ReadFull(i, p)
	return early(err)
}

func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// New reads the first header. A file with a dictionary larger than maxDict bytes is an
// error when that shows.
func New(r io.Reader, maxDict int) (*Reader, error) {
	z := &Reader{in: &input{Reader: bufio.NewReaderSize(r, 64<<10)}, maxDict: maxDict}
	if err := z.stream(); err != nil {
		return nil, early(err)
	}
	return z, nil
}

func corrupt(what string) error { return fmt.Errorf("%w: %s", ErrCorrupt, what) }

// stream reads a stream's header; [io.EOF] is the end of the file.
func (z *Reader) stream() error {
	var h [12]byte
	for {
		if _, err := io.ReadFull(z.in, h[:4]); err != nil {
			return err
		}
		if padding := z.index != nil && binary.LittleEndian.Uint32(h[:4]) == 0; !padding {
			break
		}
	}
	if err := z.in.full(h[4:]); err != nil {
		return err
	}
	if string(h[:6]) != Magic {
		return corrupt("it doesn't begin as xz")
	}
	if crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) || h[6] != 0 || h[7] > 15 {
		return corrupt("a stream's header")
	}
	z.check, z.index, z.count = h[7], sha256.New(), 0
	return nil
}

// Read implements [io.Reader].
func (z *Reader) Read(p []byte) (int, error) {
	for z.err == nil && len(p) > 0 {
		if z.block == nil {
			z.err = z.next()
			continue
		}
		n, err := z.block.Read(p)
		if err == io.EOF {
			err = z.endBlock()
		}
		if z.err = err; n > 0 {
			return n, nil
		}
	}
	return 0, z.err
}

// next opens the next block, or ends the stream and begins the next.
func (z *Reader) next() error {
	size, err := z.in.ReadByte()
	if err != nil {
		return early(err)
	}
	if size != 0 {
		return z.open(size)
	}
	if err := z.endStream(); err != nil {
		return err
	}
	err = z.stream()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt("what follows a stream")
	}
	return err
}

// endBlock checks a block and enters it into the index.
func (z *Reader) endBlock() error {
	b := z.block
	z.block = nil
	unpadded, err := b.end()
	if err != nil {
		return err
	}
	z.work = max(0, z.work-workFactor*b.out)
	enter(z.index, unpadded, uint64(b.out))
	z.count++
	return nil
}

// enter adds a record to the hash of an index.
func enter(h hash.Hash, unpadded, out uint64) {
	h.Write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, unpadded), out))
}

// endStream reads the index, of which the first byte has been read, and the footer.
func (z *Reader) endStream() error {
	start := z.in.n - 1
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	in := &summed{z.in, sum}
	count, err := number(in)
	if err != nil {
		return err
	}
	if count != z.count {
		return corrupt("its index has another number of blocks")
	}
	have := sha256.New()
	for range count {
		unpadded, err := number(in)
		if err != nil {
			return err
		}
		out, err := number(in)
		if err != nil {
			return err
		}
		enter(have, unpadded, out)
	}
	if !bytes.Equal(have.Sum(nil), z.index.Sum(nil)) {
		return corrupt("its index is of other blocks")
	}
	for (z.in.n-start)%4 != 0 {
		if b, err := in.ReadByte(); err != nil {
			return early(err)
		} else if b != 0 {
			return corrupt("padding of its index")
		}
	}
	var tail [4 + 12]byte
	if err := z.in.full(tail[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(tail[:]) != sum.Sum32() {
		return corrupt("the sum of its index")
	}
	return z.footer(tail[4:], z.in.n-12-start)
}

// footer checks a stream's footer against its header and the size of its index.
func (z *Reader) footer(f []byte, index int64) error {
	if crc32.ChecksumIEEE(f[4:10]) != binary.LittleEndian.Uint32(f) || f[8] != 0 || f[9] != z.check || string(f[10:]) != "YZ" ||
		(int64(binary.LittleEndian.Uint32(f[4:]))+1)*4 != index {
		return corrupt("a stream's footer")
	}
	return nil
}

// summed adds what is read to a sum.
type summed struct {
	in  io.ByteReader
	sum hash.Hash
}

// ReadByte implements [io.ByteReader].
func (s *summed) ReadByte() (byte, error) {
	b, err := s.in.ReadByte()
	if err == nil {
		s.sum.Write([]byte{b})
	}
	return b, err
}

// number reads an integer of at most 63 bits, in sevens, the lowest first.
func number(in io.ByteReader) (uint64, error) {
	var n uint64
	for i := range 9 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, early(err)
		}
		if b == 0 && i > 0 {
			return 0, corrupt("an integer with a zero at its end")
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, corrupt("an integer of more than 63 bits")
}
