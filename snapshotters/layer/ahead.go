package layer

import (
	"io"
	"sync"
)

// How far decompression runs ahead of what is read.
const (
	aheadBuffers = 3
	aheadSize    = 256 << 10
)

// ahead reads a source in a goroutine of its own, so that a layer's inflating is
// not in the way of its hashing and writing. It ends with the source, or with Close and
// the read that is under way then.
type ahead struct {
	full chan []byte // closed at the end
	free chan []byte
	err  error // of the source; set before full is closed
	stop chan struct{}
	rest []byte // of buf, not yet read
	buf  []byte
}

var aheadPool = sync.Pool{New: func() any { b := make([]byte, aheadSize); return &b }}

// readAhead starts to read src; done is called when src isn't used any more.
func readAhead(src io.Reader, done func()) *ahead {
	a := &ahead{full: make(chan []byte, aheadBuffers), free: make(chan []byte, aheadBuffers), stop: make(chan struct{})}
	for range aheadBuffers {
		a.free <- *aheadPool.Get().(*[]byte)
	}
	go func() {
		defer done()
		a.err = a.run(src)
		close(a.full)
	}()
	return a
}

func (a *ahead) run(src io.Reader) error {
	for {
		select {
		case <-a.stop:
			return io.EOF
		case b := <-a.free:
			n, err := src.Read(b[:aheadSize])
			a.full <- b[:n] // never waits: it has room for all buffers
			if err != nil {
				return err
			}
		}
	}
}

// Read implements [io.Reader].
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.buf != nil {
			a.free <- a.buf
			a.buf = nil
		}
		b, ok := <-a.full
		if !ok {
			return 0, a.err
		}
		a.buf, a.rest = b, b
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// close ends the goroutine and gives the buffers back that it doesn't hold.
func (a *ahead) close() {
	close(a.stop)
	if a.buf != nil {
		a.free <- a.buf
		a.buf, a.rest = nil, nil
	}
	for {
		select {
		case b := <-a.free:
			b = b[:aheadSize]
			aheadPool.Put(&b)
		default:
			return
		}
	}
}
