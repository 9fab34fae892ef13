package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/orlop/orlop/internal/logfile"
)

// hub hands what a process prints to clients that are attached at a unix socket.
//
// A client first gets one byte, 0, when it is attached: what is printed from then on
// reaches it. Then come frames of an 8-byte header, {1|2,0,0,0,length as 32 bits,
// big-endian}, and that many bytes, 1 being standard output or the terminal, 2
// standard error. The end of the connection is the process's end.
//
// A client that doesn't read holds the process up once its queue is full, as the
// reader of a pipe does, until it goes on or goes away.
type hub struct {
	l net.Listener // nil if nobody can attach

	mu      sync.Mutex
	closed  bool
	clients map[*hubClient]struct{}
	serving sync.WaitGroup
}

type hubClient struct {
	conn   net.Conn
	frames chan []byte
	last   chan struct{} // closed when no more will come
	gone   chan struct{} // closed when nobody takes frames any more
}

// Bounds of attached clients.
const (
	maxClients = 64
	maxLag     = 16               // frames that wait, of at most MaxLine bytes
	lastWords  = 10 * time.Second // for a client to read what is left at the end
)

func openHub(path string) (*hub, error) {
	h := &hub{clients: map[*hubClient]struct{}{}}
	if path == "" {
		return h, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("attach socket: %w", err)
	}
	h.l = l
	h.serving.Go(h.serve)
	return h, nil
}

func (h *hub) serve() {
	for {
		conn, err := h.l.Accept()
		if err != nil {
			return
		}
		c := &hubClient{conn: conn, frames: make(chan []byte, maxLag), last: make(chan struct{}), gone: make(chan struct{})}
		if !h.add(c) {
			conn.Close()
			continue
		}
		h.serving.Go(func() { h.write(c) })
	}
}

func (h *hub) add(c *hubClient) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.clients) >= maxClients {
		return false
	}
	h.clients[c] = struct{}{}
	c.frames <- []byte{0}
	return true
}

// write passes frames on until the client goes or the last one has been written.
func (h *hub) write(c *hubClient) {
	defer c.conn.Close()
	defer close(c.gone)
	for {
		var frame []byte
		select {
		case frame = <-c.frames:
		case <-c.last:
			select {
			case frame = <-c.frames:
			default:
				return
			}
		}
		if _, err := c.conn.Write(frame); err != nil {
			h.mu.Lock()
			delete(h.clients, c)
			h.mu.Unlock()
			return
		}
	}
}

// send hands a chunk to all clients.
func (h *hub) send(stream logfile.Stream, data []byte) {
	h.mu.Lock()
	clients := slices.Collect(maps.Keys(h.clients))
	h.mu.Unlock()
	if len(clients) == 0 {
		return
	}
	kind := byte(1)
	if stream == logfile.Stderr {
		kind = 2
	}
	frame := append(binary.BigEndian.AppendUint32([]byte{kind, 0, 0, 0}, uint32(len(data))), data...)
	for _, c := range clients {
		select {
		case c.frames <- frame:
		case <-c.gone:
		}
	}
}

// close lets clients read what is left, for a while, and ends them.
func (h *hub) close() {
	if h.l != nil {
		h.l.Close() // removes the socket
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for c := range h.clients {
		delete(h.clients, c)
		c.conn.SetWriteDeadline(time.Now().Add(lastWords))
		close(c.last)
	}
}
