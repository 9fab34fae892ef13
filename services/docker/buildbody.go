package docker

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// buildBody is a request's body that a build reads while it is answered. A build may end
// before it has read everything; nobody may read any more then, since the connection is
// the server's again.
type buildBody struct {
	mu   sync.Mutex // held while somebody reads
	from io.Reader
	over bool
}

// Read reads until the build has ended.
func (b *buildBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, io.ErrClosedPipe
	}
	return b.from.Read(p)
}

// Close leaves the body to the server.
func (b *buildBody) Close() error { return nil }

const (
	// maxUnread bounds what of a context is still taken when its build is over, in bytes,
	// so that a client that only then listens hears of it.
	maxUnread = 8 << 20
	// unreadWait bounds the wait for that.
	unreadWait = time.Second
)

// end ends reading. What is left is drained: a server that meets the end of a body by
// itself, after an answer that began before, reads the connection twice.
func (b *buildBody) end(c *http.ResponseController) {
	_ = c.SetReadDeadline(time.Now().Add(unreadWait)) // a connection without deadlines ends with its client
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	_, _ = io.CopyN(io.Discard, b.from, maxUnread) // whatever comes of it, the connection ends
}
