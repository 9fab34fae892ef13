package engine

import (
	"context"
	"time"
)

// recordDelay is how long a container that removes itself may run before that is
// recorded.
const recordDelay = 100 * time.Millisecond

// recordSoon records that a container which removes itself runs: a little later, and
// not at all if it is gone by then, as most are. A daemon that dies before finds the
// task, which tells the same ([Engine.resume]); after a power cut, when nothing runs any
// more, the container is one that was created and not started.
func (e *Engine) recordSoon(c *Container, ended <-chan struct{}) {
	t := time.NewTimer(recordDelay)
	defer t.Stop()
	select {
	case <-ended:
		return
	case <-t.C:
	case <-e.life.Done():
	}
	c.op.Lock()
	defer c.op.Unlock()
	if s := c.state(); s.Running && !s.Removing {
		e.saveEnd(context.WithoutCancel(e.life), c)
	}
}

func (c *Container) removesItself() bool {
	_, h := c.config()
	return h.AutoRemove
}
