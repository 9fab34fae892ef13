package logsink

import (
	"errors"
	"fmt"
	"time"

	"github.com/orlop/orlop/internal/logfile"
)

// Pauses between connections that fail: the first, doubling to the longest.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// datagramTries is how often a datagram is sent that nobody takes.
const datagramTries = 2

// reportEvery is how often a sink that does not work is complained about.
const reportEvery = time.Minute

// Sink takes lines to where they are collected. It is safe for concurrent use.
type Sink struct {
	d         driver
	datagrams bool
	q         *Queue
	report    func(error)
	closing   chan struct{}
	done      chan struct{}
	reported  time.Time
}

// Open begins to take lines. It does not wait for a connection: a sink that isn't there yet
// is tried again. What goes wrong is reported, not too often.
func Open(c *Config, report func(error)) (*Sink, error) {
	if err := Check(c); err != nil {
		return nil, err
	}
	k := kinds[c.Driver]
	d, err := k.open(c)
	if err != nil {
		return nil, err
	}
	q, err := queueOf(c)
	if err != nil {
		return nil, err
	}
	s := &Sink{d: d, datagrams: k.datagrams, q: q, report: report, closing: make(chan struct{}), done: make(chan struct{})}
	if g, ok := d.(interface{ isDatagram() bool }); ok {
		s.datagrams = g.isDatagram()
	}
	go s.run()
	return s, nil
}

// Write hands a line on.
func (s *Sink) Write(e logfile.Entry) { s.q.Put(e) }

// Close sends what is left, as long as may, and ends the sink.
func (s *Sink) Close(may time.Duration) {
	s.q.Close()
	t := time.AfterFunc(may, func() { close(s.closing) })
	defer t.Stop()
	select {
	case <-s.done:
	case <-s.closing:
		// A send that hangs ends by its own deadline.
	}
}

// run sends the lines in their order.
func (s *Sink) run() {
	defer close(s.done)
	defer s.d.close()
	connected, tries, pause := false, 0, firstPause
	for {
		e, ok := s.q.First()
		if !ok {
			return
		}
		var err error
		if !connected {
			err = s.d.connect()
		}
		if err == nil {
			connected = true
			s.q.Absent(false)
			err = s.d.send(e)
		}
		switch {
		case err == nil:
			pause, tries = firstPause, 0
			s.q.Pop()
			continue
		case errors.Is(err, errTooLarge):
			s.complain(err)
			s.q.Pop()
			continue
		}
		connected = false
		s.q.Absent(true)
		s.complain(err)
		if tries++; s.datagrams && tries >= datagramTries {
			tries = 0
			s.q.Pop()
			continue
		}
		if s.q.isClosed() || !s.wait(pause) {
			return
		}
		pause = min(2*pause, longestPause)
	}
}

// wait waits, unless there is no more time.
func (s *Sink) wait(pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.closing:
		return false
	}
}

// complain reports an error, and how many lines were lost.
func (s *Sink) complain(err error) {
	if time.Since(s.reported) < reportEvery {
		return
	}
	s.reported = time.Now()
	if n := s.q.Dropped(); n > 0 {
		err = fmt.Errorf("%d lines were dropped: %w", n, err)
	}
	s.report(err)
}
