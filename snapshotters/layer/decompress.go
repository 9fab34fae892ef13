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
// output is endless if the input says so: bound it ([Options].MaxBytes). A
// goroutine reads r ahead until the end; after an early Close, which doesn't close
// r, one read of it may still be under way.
func Decompress(r io.Reader, mediaType string) (io.ReadCloser, error) {
	var first [4]byte
	n, err := io.ReadFull(r, first[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	head := first[:n]
	whole := io.MultiReader(bytes.NewReader(head), r)
	var z io.Reader
	var done func()
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		z, done, err = openGzip(whole)
	case bytes.HasPrefix(head, zstdMagic), isSkippable(head):
		z, done, err = openZstd(whole)
	default:
		return io.NopCloser(whole), nil
	}
	if err != nil {
		return nil, fmt.Errorf("layer of type %q: %w", mediaType, err)
	}
	return &stream{ahead: readAhead(z, done)}, nil
}

// stream is an open blob that is compressed.
type stream struct {
	ahead *ahead
	once  sync.Once
}

func openGzip(r io.Reader) (io.Reader, func(), error) {
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
		return nil, nil, err
	}
	return z, done, nil
}

func openZstd(r io.Reader) (io.Reader, func(), error) {
	in := inputs.Get().(*bufio.Reader) // zstd reads in small pieces
	in.Reset(r)
	z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		in.Reset(nil)
		inputs.Put(in)
		return nil, nil, err
	}
	return z, func() {
		z.Close()
		in.Reset(nil)
		inputs.Put(in)
	}, nil
}

// Read implements [io.Reader].
func (s *stream) Read(p []byte) (int, error) {
	if s.ahead == nil {
		return 0, io.EOF
	}
	return s.ahead.Read(p)
}

// Close gives memory back. Reading afterwards ends.
func (s *stream) Close() error {
	s.once.Do(func() {
		s.ahead.close()
		s.ahead = nil
	})
	return nil
}

// isSkippable tells zstd's skippable frames, with which some tools begin.
func isSkippable(head []byte) bool {
	return len(head) == 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}
