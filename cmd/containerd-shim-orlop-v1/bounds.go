package main

import (
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/log"

	"github.com/orlop/orlop/internal/pages"
	"github.com/orlop/orlop/shims/server"
)

// idleWait is how long a shim without a container waits for its daemon to come
// back before it ends.
const idleWait = time.Minute

// quietWait is how long after a change in what it holds a shim gives memory back.
const quietWait = 2 * time.Second

// watchIdle calls halt once the shim holds nothing and nobody is connected, and
// gives memory back that creations have needed.
func watchIdle(l net.Listener, svc *server.Service, halt func()) net.Listener {
	w := &countingListener{Listener: l}
	go func() {
		held, trimmed := 0, 0
		for idle := time.Duration(0); idle < idleWait; idle += quietWait {
			time.Sleep(quietWait)
			n := svc.Len()
			if n == held && n != trimmed {
				giveBack()
				trimmed = n
			}
			if held = n; n > 0 || w.open.Load() > 0 {
				idle = 0
			}
		}
		halt()
	}()
	return w
}

// giveBack returns memory to the kernel: what creations have left on the heap, and the
// code that they ran, which is nobody's need while containers just run.
func giveBack() {
	debug.FreeOSMemory()
	if err := pages.Forget(); err != nil {
		log.L.WithError(err).Debug("the pages of the program's file stay mapped")
	}
}

// countingListener counts open connections.
type countingListener struct {
	net.Listener
	open atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	return &countedConn{Conn: c, closed: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// maxLog bounds what a shim writes to its log, in bytes: it lies in memory.
const maxLog = 1 << 20

// boundLog ends the log at its bound.
func boundLog() { log.L.Logger.SetOutput(&boundedWriter{w: os.Stderr, left: maxLog}) }

type boundedWriter struct {
	w    io.Writer
	left int
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.left = 0
		return len(p), nil
	}
	b.left -= len(p)
	return b.w.Write(p)
}
