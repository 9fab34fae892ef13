package engine

import (
	"context"
	"time"

	"github.com/orlop/orlop/internal/logfile"
)

// LogQuery says which lines of a log to read.
type LogQuery struct {
	Tail         int // how many of the last; below 0 is all
	Since, Until time.Time
	Follow       bool
}

// Log is a container's log.
type Log struct {
	// TTY tells that there is one stream only.
	TTY  bool
	e    *Engine
	c    *Container
	path string
}

// Logs opens a container's log.
func (e *Engine) Logs(ref string) (*Log, error) {
	c, err := e.lookup(ref)
	if err != nil {
		return nil, err
	}
	config, host := c.config()
	if !readable(&host.LogConfig) {
		return nil, missing("configured logging driver does not support reading")
	}
	return &Log{config.Tty, e, c, e.logPath(c.ID)}, nil
}

// Read calls fn for each line. With Follow it goes on until the container's end.
func (l *Log) Read(ctx context.Context, q LogQuery, fn func(logfile.Entry) error) error {
	ended, running := l.c.running()
	if !running || ended == nil {
		over := make(chan struct{})
		close(over)
		ended = over
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.e.life, cancel)()
	return logfile.Read(ctx, l.path, logfile.Query{Tail: q.Tail, Since: q.Since, Until: q.Until, Follow: q.Follow, Ended: ended}, fn)
}
