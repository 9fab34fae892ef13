package build

import (
	controlapi "github.com/moby/buildkit/api/services/control"
	"google.golang.org/protobuf/proto"
)

// Progress is what is new of a build.
type Progress struct {
	Steps  []Step
	Output []Printed
	raw    *controlapi.StatusResponse
}

// Printed is what a step has printed.
type Printed struct {
	Text []byte
	// Stderr tells that it went to the second stream.
	Stderr bool
}

// stderr is its number with BuildKit.
const stderr = 2

// Step is a step whose state has changed.
type Step struct {
	ID, Name        string
	Started, Cached bool
}

// Trace is the same as a message of BuildKit's, for clients that draw it themselves.
func (p Progress) Trace() ([]byte, error) { return proto.Marshal(p.raw) }

func toProgress(m *controlapi.StatusResponse) Progress {
	p := Progress{raw: m}
	for _, x := range m.Vertexes {
		p.Steps = append(p.Steps, Step{ID: x.Digest, Name: x.Name, Started: x.Started != nil, Cached: x.Cached})
	}
	for _, l := range m.Logs {
		p.Output = append(p.Output, Printed{l.Msg, l.Stream == stderr})
	}
	return p
}

// Listener is told how a build goes. It is called from one goroutine.
type Listener interface {
	// Progress is called with what is new.
	Progress(Progress) error
}
