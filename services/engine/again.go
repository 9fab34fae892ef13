package engine

import (
	"time"

	"github.com/containerd/log"
)

// recordPause is how long it takes until a record that could not be written, as on a
// full disk, is tried again.
const recordPause = 2 * time.Second

// saveAgain writes a container's record as soon as it can be written: until then only
// this daemon knows the end of its run. One waits for each container.
func (e *Engine) saveAgain(c *Container) {
	c.mu.Lock()
	waits := c.unsaved
	c.unsaved = true
	c.mu.Unlock()
	if waits {
		return
	}
	e.work.Go(func() {
		for {
			select {
			case <-e.life.Done():
				return
			case <-time.After(recordPause):
			}
			if e.saveNow(c) {
				return
			}
		}
	})
}

// saveNow tells whether there is nothing left to be written.
func (e *Engine) saveNow(c *Container) bool {
	c.op.Lock()
	defer c.op.Unlock()
	if found, err := e.lookup(c.ID); err != nil || found != c {
		return true // it was removed
	}
	if err := e.save(e.life, c); err != nil {
		return false
	}
	c.mu.Lock()
	c.unsaved = false
	c.mu.Unlock()
	log.G(e.life).Infof("the end of container %s is recorded now", short(c.ID))
	return true
}
