package logsink

import (
	"bytes"
	"sync"

	"github.com/orlop/orlop/internal/logfile"
)

// entryCost is what a line costs beside its text, in bytes.
const entryCost = 64

// Queue holds lines until they are taken, up to a number of bytes.
type Queue struct {
	most  int64
	block bool

	mu      sync.Mutex
	changed *sync.Cond
	lines   []logfile.Entry
	size    int64
	absent  bool // nobody takes lines: a full queue drops them
	closed  bool
	dropped int64
}

// NewQueue makes a queue. With block a full one makes who writes wait, as long as
// somebody takes lines; else the line is dropped.
func NewQueue(most int64, block bool) *Queue {
	q := &Queue{most: most, block: block}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// Put adds a copy of a line. An empty queue takes any.
func (q *Queue) Put(e logfile.Entry) {
	cost := int64(len(e.Line)) + entryCost
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.size+cost > q.most && len(q.lines) > 0 && !q.closed {
		if !q.block || q.absent {
			q.dropped++
			return
		}
		q.changed.Wait()
	}
	if q.closed {
		q.dropped++
		return
	}
	e.Line = bytes.Clone(e.Line)
	q.lines = append(q.lines, e)
	q.size += cost
	q.changed.Broadcast()
}

// First waits for a line and returns it without taking it; not ok is the end of a
// queue that was closed.
func (q *Queue) First() (e logfile.Entry, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lines) == 0 && !q.closed {
		q.changed.Wait()
	}
	if len(q.lines) == 0 {
		return e, false
	}
	return q.lines[0], true
}

// Pop takes the first line.
func (q *Queue) Pop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.size -= int64(len(q.lines[0].Line)) + entryCost
	q.lines[0] = logfile.Entry{}
	if q.lines = q.lines[1:]; len(q.lines) == 0 {
		q.lines = nil // lets go of the room that a burst has taken
	}
	q.changed.Broadcast()
}

// Absent says whether somebody takes lines.
func (q *Queue) Absent(is bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.absent = is
	q.changed.Broadcast()
}

// Close ends the queue: no more lines are taken in.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
}

func (q *Queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// Dropped is how many lines were dropped since it was last asked.
func (q *Queue) Dropped() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.dropped
	q.dropped = 0
	return n
}
