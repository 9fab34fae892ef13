package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/orlop/orlop/runtime/table"
	"golang.org/x/sys/unix"
)

// child is a process that is walking its table, seen from the parent.
type child struct {
	plan   *plan
	sock   int // our end
	far    int // the child's end, ours to close
	shared bool
	pid    func() int

	done chan struct{} // closed when Run has returned
	err  error         // of Run, valid then
	once sync.Once
}

// errGone says that the child ended without a word.
var errGone = errors.New("the new process ended unexpectedly")

// newChild makes the socket between parent and child.
func newChild(p *plan) (*child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket pair: %w", err)
	}
	return &child{plan: p, sock: pair[0], far: pair[1], pid: p.t.PID, done: make(chan struct{})}, nil
}

// launch clones. It returns at once.
func (c *child) launch(clone table.Clone, first table.Ref) error {
	if err := c.plan.t.Built(); err != nil {
		return err
	}
	clone.Share = c.shared
	run := func() {
		c.err = c.plan.t.Run(clone, first)
		if c.shared || c.err != nil {
			// Whoever reads shall stop. Our own end is open until done is closed,
			// the other may have been closed and its number be another file's.
			unix.Shutdown(c.sock, unix.SHUT_RDWR)
		}
		c.closeFar()
		if !c.shared && c.err == nil {
			c.plan.close() // it has copies; with ours closed, its end ends the socket
		}
		close(c.done)
	}
	if c.shared {
		go run()
	} else {
		run()
	}
	return nil
}

func (c *child) closeFar() { c.once.Do(func() { unix.Close(c.far) }) }

// next waits for the child's next message, with the descriptor it carries or -1.
func (c *child) next(ctx context.Context) (step byte, fd int, err error) {
	stop := context.AfterFunc(ctx, func() { unix.Shutdown(c.sock, unix.SHUT_RDWR) })
	defer stop()
	var buf [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		n, m, _, _, err := unix.Recvmsg(c.sock, buf[:], oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			if ctx.Err() != nil {
				return 0, -1, ctx.Err()
			}
			return 0, -1, c.failure()
		}
		return buf[0], receivedFD(oob[:m]), nil
	}
}

func receivedFD(oob []byte) int {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(list) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	return fds[0]
}

// reply lets the child go on.
func (c *child) reply() error {
	_, err := unix.Write(c.sock, []byte{1})
	return err
}

// failure is why the child ended.
func (c *child) failure() error {
	<-c.done
	if c.err != nil {
		return fmt.Errorf("clone: %w", c.err)
	}
	if err := c.plan.t.Err(); err != nil {
		return c.plan.explain(err)
	}
	return errGone
}

// kill ends the child and collects it (and the process between, if there was one).
func (c *child) kill(inner bool) {
	if pid := c.pid(); pid > 0 {
		unix.Kill(pid, unix.SIGKILL)
	}
	if between := c.plan.t.PID(); inner && between > 0 {
		unix.Kill(between, unix.SIGKILL) // it may still wait for our word
	}
	<-c.done
	if c.err == nil {
		if pid := c.pid(); pid > 0 {
			reap(pid)
		}
		if inner {
			reap(c.plan.t.PID())
		}
	}
}

// release frees everything once the child walks no more.
func (c *child) release() {
	c.closeFar()
	<-c.done
	unix.Close(c.sock)
	c.plan.close()
	c.plan.t.Free()
}

// executed waits until the child has executed its program, and tells if not.
func (c *child) executed(ctx context.Context) error {
	if c.shared {
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	} else if _, _, err := c.next(ctx); ctx.Err() != nil {
		return err
	}
	if c.err != nil {
		return fmt.Errorf("clone: %w", c.err)
	}
	if err := c.plan.t.Err(); err != nil {
		return c.plan.explain(err)
	}
	return nil
}

// takeListener waits for the child to load its filter and takes the listener.
func (c *child) takeListener(pidfd int) (*os.File, error) {
	p := c.plan
	for p.t.Value(p.listener) == 0 {
		select {
		case <-c.done:
			if c.shared {
				return nil, c.failure()
			}
		default:
		}
		if err := unix.Kill(c.pid(), 0); err != nil {
			return nil, errGone
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 50_000}, nil)
	}
	v := p.t.Value(p.listener)
	if v < 0 {
		return nil, syscall.Errno(-v)
	}
	fd, err := unix.PidfdGetfd(pidfd, int(v), 0)
	p.t.Store(p.loaded, 1)
	if err != nil {
		return nil, fmt.Errorf("take the seccomp listener: %w", err)
	}
	return os.NewFile(uintptr(fd), "seccomp"), nil
}
