package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// streams are a process's standard streams on the shim's side. Without a
// terminal the process gets the client's fifos themselves: no byte is copied,
// and the container goes on if the shim dies.
type streams struct {
	std   stdio    // handed to the process
	keep  *os.File // keeps stdin from ending before CloseIO
	mu    sync.Mutex
	tty   *os.File // master side
	pumps sync.WaitGroup
}

// openStreams opens the client's ends. A terminal's are opened once it exists.
func openStreams(in, out, errw string, terminal bool) (*streams, error) {
	s := &streams{}
	if terminal {
		return s, nil
	}
	var err error
	if s.std.in, s.keep, err = openIn(in); err == nil {
		if s.std.out, err = openOut(out); err == nil {
			s.std.err, err = openOut(errw)
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// openIn opens a fifo to read without waiting for its writer, and a writer of
// our own that is closed by CloseIO.
func openIn(path string) (r, keep *os.File, err error) {
	if path == "" {
		return nil, nil, nil
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("stdin %s: %w", path, err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	keepFD, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("stdin %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), os.NewFile(uintptr(keepFD), path), nil
}

// openOut opens a fifo to write, or a log file ("file:///path"). A fifo is opened
// for both directions, so that its reader may come late or go away.
func openOut(target string) (*os.File, error) {
	if target == "" {
		return nil, nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("stream %q: %w: %w", target, err, errdefs.ErrInvalidArgument)
	}
	switch u.Scheme {
	case "", "fifo":
		return os.OpenFile(u.Path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	case "file":
		if err := os.MkdirAll(filepath.Dir(u.Path), 0o700); err != nil {
			return nil, err
		}
		return os.OpenFile(u.Path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	return nil, fmt.Errorf("streams of scheme %q are not supported: %w", u.Scheme, errdefs.ErrNotImplemented)
}

// closeIn ends standard input, unless a client still has it open.
func (s *streams) closeIn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keep != nil {
		s.keep.Close()
		s.keep = nil
	}
}

// close ends the streams when the process has ended.
func (s *streams) close() {
	s.closeIn()
	s.pumps.Wait()
	for _, f := range []*os.File{s.std.in, s.std.out, s.std.err} {
		if f != nil {
			f.Close()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tty != nil {
		s.tty.Close()
		s.tty = nil
	}
}

// resize sets a terminal's size.
func (s *streams) resize(width, height uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tty == nil {
		return nil // its last process has just ended
	}
	return unix.IoctlSetWinsize(int(s.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: uint16(width)})
}

// attach copies between a terminal and the client's fifos.
func (s *streams) attach(tty *os.File, in, out string) error {
	s.mu.Lock()
	s.tty = tty
	s.mu.Unlock()
	if out != "" {
		w, err := openOut(out)
		if err != nil {
			return err
		}
		s.pumps.Go(func() {
			defer w.Close()
			io.Copy(struct{ io.Writer }{w}, tty) // ends with EIO when the last process has closed it
		})
	}
	if in == "" {
		return nil
	}
	// Not waited for: a reader of stdin ends when the client goes.
	r, keep, err := openIn(in)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.keep = keep
	s.mu.Unlock()
	go func() {
		defer r.Close()
		io.Copy(struct{ io.Writer }{tty}, r)
	}()
	return nil
}

// consoleSocket is where a runtime hands over the terminal it made.
type consoleSocket struct {
	listener *net.UnixListener
	dir      string
}

func newConsoleSocket() (*consoleSocket, error) {
	dir, err := os.MkdirTemp("", "orlop-pty") // short: a socket's path has 108 bytes
	if err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return &consoleSocket{l, dir}, nil
}

func (c *consoleSocket) path() string { return filepath.Join(c.dir, "s") }

func (c *consoleSocket) close() error {
	return errors.Join(c.listener.Close(), os.RemoveAll(c.dir))
}

// receive takes the terminal's master side.
func (c *consoleSocket) receive() (*os.File, error) {
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, oob)
	if err != nil {
		return nil, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return nil, fmt.Errorf("the runtime sent no terminal: %w", errors.Join(err, errdefs.ErrInternal))
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("the runtime sent %d terminals: %w", len(fds), errors.Join(err, errdefs.ErrInternal))
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "console"), nil
}
