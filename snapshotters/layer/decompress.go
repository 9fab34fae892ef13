package layer

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/orlop/orlop/internal/inflate"
)

// maxWindow bounds the memory of a zstd stream: 128 MiB is what the highest
// level of the zstd program uses.
const maxWindow = 128 << 20

var (
	gzipMagic = []byte{0x1f, 0x8b, 0x08}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

var (
	gzipReaders sync.Pool
	inputs      = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 128<<10) }}
)

// Decompress opens a layer blob: gzip, zstd or neither, which its first bytes
// tell; the media type of a blob is a registry's claim and is not needed. The
// output is endless if the input says so: bound it ([Options].MaxBytes). Close
// doesn't close r.
func Decompress(r io.Reader, mediaType string) (io.ReadCloser, error) {
	var first [4]byte
	n, err := io.ReadFull(r, first[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	head := first[:n]
	whole := io.MultiReader(bytes.NewReader(head), r)
	var s *stream
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		s, err = openGzip(whole)
	case bytes.HasPrefix(head, zstdMagic), isSkippable(head):
		s, err = openZstd(whole)
	default:
		s, err = &stream{Reader: whole, done: func() {}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("layer of type %q: %w", mediaType, err)
	}
	return s, nil
}

// stream is an open blob.
type stream struct {
	io.Reader
	done func()
	once sync.Once
}

func openGzip(r io.Reader) (*stream, error) {
	z, ok := gzipReaders.Get().(*inflate.Reader)
	if !ok {
		z = new(inflate.Reader)
	}
	done := func() {
		z.Reset(bytes.NewReader(nil)) // lets go of r
		gzipReaders.Put(z)
	}
	if err := z.Reset(r); err != nil {
		done()
		return nil, err
	}
	return &stream{Reader: z, done: done}, nil
}

func openZstd(r io.Reader) (*stream, error) {
	in := inputs.Get().(*bufio.Reader) // zstd reads in small pieces
	in.Reset(r)
	z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		in.Reset(nil)
		inputs.Put(in)
		return nil, err
	}
	return &stream{Reader: z, done: func() {
		z.Close()
		in.Reset(nil)
		inputs.Put(in)
	}}, nil
}

// Close gives memory back. Reading afterwards ends.
func (s *stream) Close() error {
	s.once.Do(func() {
		s.Reader = bytes.NewReader(nil)
		s.done()
	})
	return nil
}

// isSkippable tells zstd's skippable frames, with which some tools begin.
func isSkippable(head []byte) bool {
	return len(head) == 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}
