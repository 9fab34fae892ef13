package layer

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
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
	in := inputs.Get().(*bufio.Reader)
	in.Reset(r)
	head, err := in.Peek(len(zstdMagic))
	if err != nil && err != io.EOF {
		release(in)
		return nil, err
	}
	s := &stream{in: in}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		err = s.openGzip()
	case bytes.HasPrefix(head, zstdMagic), isSkippable(head):
		err = s.openZstd()
	default:
		s.Reader, err = in, nil
	}
	if err != nil {
		release(in)
		return nil, fmt.Errorf("layer of type %q: %w", mediaType, err)
	}
	return s, nil
}

// stream is an open blob.
type stream struct {
	io.Reader
	in   *bufio.Reader
	done func()
	once sync.Once
}

func (s *stream) openGzip() error {
	z, ok := gzipReaders.Get().(*gzip.Reader)
	var err error
	if ok {
		err = z.Reset(s.in)
	} else {
		z, err = gzip.NewReader(s.in)
	}
	if err != nil {
		return err
	}
	s.Reader, s.done = z, func() { gzipReaders.Put(z) }
	return nil
}

func (s *stream) openZstd() error {
	z, err := zstd.NewReader(s.in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	s.Reader, s.done = z, z.Close
	return nil
}

// Close gives memory back. Reading afterwards ends.
func (s *stream) Close() error {
	s.once.Do(func() {
		s.Reader = bytes.NewReader(nil)
		if s.done != nil {
			s.done()
		}
		release(s.in)
	})
	return nil
}

func release(in *bufio.Reader) {
	in.Reset(nil)
	inputs.Put(in)
}

// isSkippable tells zstd's skippable frames, with which some tools begin.
func isSkippable(head []byte) bool {
	return len(head) == 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}
