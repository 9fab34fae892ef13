// Package progress is the vocabulary of how a transfer gets on. Steps are facts
// for people: losing one loses nothing else. Nothing is kept.
package progress

import (
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Step says where one thing that is transferred stands.
type Step struct {
	// Event is what happens: "waiting", "downloading", "complete" and others.
	Event string
	// Name tells the thing from others: "layer-sha256:…", an image's name; empty
	// is the transfer as a whole.
	Name string
	// Parents are names of what it is a part of.
	Parents []string
	Done    int64 // bytes
	Total   int64 // bytes; 0 where unknown
	Desc    *ocispec.Descriptor
}

// Func takes steps; nil takes none. It may be called from several goroutines at
// once, and it must not wait for anything.
type Func func(Step)

// Report hands on a step if somebody listens.
func (f Func) Report(s Step) {
	if f != nil {
		f(s)
	}
}

// every is how many bytes pass between two steps of a [Reader].
const every = 1 << 20

// Reader reports how much was read through it. It is for one goroutine.
type Reader struct {
	r    io.Reader
	step Step
	told int64
	f    Func
}

// NewReader reports reads from r as step, whose Done counts on.
func (f Func) NewReader(r io.Reader, step Step) *Reader {
	return &Reader{r: r, step: step, told: step.Done, f: f}
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.step.Done += int64(n)
	if r.step.Done-r.told >= every {
		r.told = r.step.Done
		r.f.Report(r.step)
	}
	return n, err
}
