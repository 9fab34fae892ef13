package network

import (
	"os"
	"sync"
	"time"

	"github.com/orlop/orlop/network/dns"
)

// hostServers are [readHostServers], read again when one of their files has changed: every
// question of every sandbox asks for them.
type hostServers struct {
	mu    sync.Mutex
	seen  []stamp // of each file, when it was read
	at    time.Time
	found []dns.Server
}

// settled is how old a change has to be for the next one to be told from it by the
// file's time, whose steps are no finer than the kernel's clock tick or, on some file
// systems, a second or two.
const settled = 2 * time.Second

// stamp tells one state of a file from another.
type stamp struct {
	info    os.FileInfo // nil: there is no such file
	changed time.Time
	size    int64
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info, info.ModTime(), info.Size()}
}

func (s stamp) is(other stamp) bool {
	if s.info == nil || other.info == nil {
		return s.info == other.info
	}
	return os.SameFile(s.info, other.info) && s.changed.Equal(other.changed) && s.size == other.size
}

// get returns the servers as the files have them now.
func (h *hostServers) get() []dns.Server {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := make([]stamp, len(resolvFiles))
	for i, path := range resolvFiles {
		now[i] = stampOf(path)
	}
	if !h.fresh(now) {
		h.seen, h.at = now, time.Now() // before it is read: what changes meanwhile is seen next time
		h.found = readHostServers()
	}
	return h.found
}

// fresh tells whether the files are as they were read.
func (h *hostServers) fresh(now []stamp) bool {
	if h.seen == nil {
		return false
	}
	for i, s := range now {
		if !s.is(h.seen[i]) || s.info != nil && h.at.Sub(s.changed) < settled {
			return false
		}
	}
	return true
}
