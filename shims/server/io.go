package server

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/logfile"
)

// ends names a process's streams as the client gave them: paths of fifos, or
// URLs of a file (file://), a log (log://) or a program that logs (binary://).
type ends struct {
	in, out, err string
	terminal     bool
}

// streams are a process's standard streams on the shim's side. Without a
// terminal the process gets the client's fifos themselves: no byte is copied,
// and the container goes on if the shim dies.
type streams struct {
	std    stdio     // handed to the process
	keep   *os.File  // keeps stdin from ending before CloseIO
	logger *logger   // program that reads the output, or nil
	record *recorder // what writes the output to a log, or nil
	mu     sync.Mutex
	tty    *os.File // master side
	pumps  sync.WaitGroup
}

// openStreams opens the client's ends. A terminal's are opened once it exists.
// Fifos of a log are made at base-stdout and base-stderr.
func openStreams(who key, base string, e ends) (*streams, error) {
	s := &streams{}
	err := s.open(who, base, e)
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *streams) open(who key, base string, e ends) (err error) {
	if s.logger, err = startLogger(who, e); err != nil {
		return err
	}
	logged, err := s.openLog(base, e)
	if err != nil || e.terminal {
		return err
	}
	if s.std.in, s.keep, err = openIn(e.in); err != nil || logged {
		return err
	}
	if s.std.out, err = s.openOut(e.out); err != nil {
		return err
	}
	s.std.err, err = s.openOut(e.err)
	return err
}

// openLog begins to record if the output goes to a log.
func (s *streams) openLog(base string, e ends) (bool, error) {
	t, err := parseLog(e.out)
	if t == nil || err != nil {
		return false, err
	}
	if s.record, err = openRecorder(t); err != nil || e.terminal {
		return true, err
	}
	if s.std.out, err = s.record.fifo(base+"-stdout", logfile.Stdout); err != nil {
		return true, err
	}
	s.std.err, err = s.record.fifo(base+"-stderr", logfile.Stderr)
	return true, err
}

// readerWait bounds the wait for a client to open its end: it does so in the
// background, before it makes its request. Some never do, and attach later.
const readerWait = 250 * time.Millisecond

// awaitReader waits until somebody has a fifo open to read, and opens it to write.
// What a short process prints before that would be lost when it ends. The result is
// -1 if nobody came.
func awaitReader(path string) int {
	for end := time.Now().Add(readerWait); time.Now().Before(end); time.Sleep(time.Millisecond) {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != unix.ENXIO {
			return fd
		}
	}
	return -1
}

// handedOver closes our copies of a log's fifos, so that they end with the process.
func (s *streams) handedOver() {
	if s.record == nil {
		return
	}
	for _, f := range []**os.File{&s.std.out, &s.std.err} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
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

// openOut opens where output goes. A fifo is opened for both directions, so that
// its reader may go away and another one come.
func (s *streams) openOut(target string) (*os.File, error) {
	if target == "" {
		return nil, nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("stream %q: %w: %w", target, err, errdefs.ErrInvalidArgument)
	}
	switch u.Scheme {
	case "", "fifo":
		// Held until ours is open: a reader that saw its writer go would go, too.
		defer unix.Close(awaitReader(u.Path))
		fd, err := unix.Open(u.Path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", u.Path, err)
		}
		return os.NewFile(uintptr(fd), u.Path), nil
	case "file":
		if err := os.MkdirAll(filepath.Dir(u.Path), 0o700); err != nil {
			return nil, err
		}
		return os.OpenFile(u.Path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	case "binary":
		if s.logger != nil {
			return s.logger.take(), nil
		}
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

// drainWait bounds how long output of a terminal is passed on after the
// process's end: another process may hold the terminal and never stop.
const drainWait = 2 * time.Second

// close ends the streams when the process has ended.
func (s *streams) close() {
	s.closeIn()
	s.handedOver()
	done := make(chan struct{})
	go func() { s.pumps.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(drainWait):
	}
	for _, f := range []*os.File{s.std.in, s.std.out, s.std.err} {
		if f != nil {
			f.Close()
		}
	}
	s.mu.Lock()
	if s.tty != nil {
		s.tty.Close()
		s.tty = nil
	}
	s.mu.Unlock()
	if s.logger != nil {
		s.logger.close()
	}
	if s.record != nil {
		s.record.close(drainWait)
	}
}

// resize sets a terminal's size.
func (s *streams) resize(width, height uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tty == nil {
		return nil // its last process has just ended
	}
	return onFD(s.tty, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: uint16(width)})
	})
}

// onFD uses a file's descriptor without making the file block.
func onFD(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// attach copies between a terminal and the client's fifos.
func (s *streams) attach(master *os.File, e ends) error {
	tty, err := pollable(master)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.tty = tty
	s.mu.Unlock()
	switch {
	case s.record != nil:
		s.pumps.Go(func() { s.record.record(tty, logfile.Stdout) })
	case e.out != "":
		w, err := s.openOut(e.out)
		if err != nil {
			return err
		}
		s.pumps.Go(func() {
			defer w.Close()
			copyPlain(w, tty) // ends with EIO when the last process has closed it
		})
	}
	if e.in == "" {
		return nil
	}
	// Not waited for: a reader of stdin ends when the client goes.
	r, keep, err := openIn(e.in)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.keep = keep
	s.mu.Unlock()
	go func() {
		defer r.Close()
		copyPlain(tty, r)
	}()
	return nil
}

// pollable makes a terminal's master one that a reader waits for without holding
// a thread, and closes the original.
func pollable(master *os.File) (*os.File, error) {
	defer master.Close()
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "console"), nil
}

// copyBytes is the buffer of one direction of a terminal.
const copyBytes = 8 << 10

// copyPlain copies without splice, which terminals lack.
func copyPlain(dst, src *os.File) {
	io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, copyBytes))
}
