package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/containerd/containerd/api/services/tasks/v1"
)

// IO says what a process's streams are connected to.
type IO struct {
	// Stdin is read if Interactive.
	Stdin io.Reader
	// Stdout and Stderr receive the output, unless detached.
	Stdout, Stderr io.Writer
	// Interactive passes Stdin on.
	Interactive bool
	// Terminal gives the process a terminal, connected to this program's.
	Terminal bool
	// Log is a URI such as file:///path that takes the output instead; the
	// process goes on without this program.
	Log string
	// Detached leaves the streams unconnected.
	Detached bool
	// Keep names the container whose fifos stay for others to attach to, if it
	// is detached. What it writes waits for them, and it waits when a fifo is
	// full.
	Keep string
}

// keepDir is the folder of fifos that stay until their container is removed.
func (c *Client) keepDir(id string) string {
	return filepath.Join(fifoDirs[0], c.Namespace, id)
}

// fifoDirs are where fifos may be, best first.
var fifoDirs = []string{"/run/orlop/fifo", "/run/orlopctl"}

// streams are the fifos of one process, as long as this program is attached.
type streams struct {
	io  IO
	dir string
	// paths as the daemon gets them, "" for none.
	in, out, err string
	// the ends on this side.
	inFile, outFile, errFile *os.File
	copied                   sync.WaitGroup
	restore                  func()
}

// newStreams makes the fifos, and opens the ends to read from, so that a shim
// that opens the others never waits.
func (c *Client) newStreams(o IO) (*streams, error) {
	s := &streams{io: o, restore: func() {}}
	if o.Log != "" {
		s.out, s.err = o.Log, o.Log
		return s, nil
	}
	if o.Detached && o.Keep != "" {
		return s, s.keep(c.keepDir(o.Keep))
	}
	if o.Detached {
		return s, nil
	}
	if err := s.make(); err != nil {
		s.close()
		return nil, fmt.Errorf("streams: %w", err)
	}
	return s, nil
}

// keep makes fifos that nobody here opens.
func (s *streams) keep(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	s.in, s.out, s.err = filepath.Join(dir, "stdin"), filepath.Join(dir, "stdout"), filepath.Join(dir, "stderr")
	if s.io.Terminal {
		s.err = ""
	}
	for _, path := range []string{s.in, s.out, s.err} {
		if path == "" {
			continue
		}
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("streams: mkfifo %s: %w", path, err)
		}
	}
	return nil
}

func (s *streams) make() error {
	var err error
	if s.dir, err = fifoDir(); err != nil {
		return err
	}
	if s.out, s.outFile, err = s.fifo("stdout", os.O_RDONLY|unix.O_NONBLOCK); err != nil {
		return err
	}
	if !s.io.Terminal {
		if s.err, s.errFile, err = s.fifo("stderr", os.O_RDONLY|unix.O_NONBLOCK); err != nil {
			return err
		}
	}
	if s.io.Interactive {
		// Opened for both, it needs no reader yet.
		s.in, s.inFile, err = s.fifo("stdin", os.O_RDWR|unix.O_NONBLOCK)
	}
	return err
}

// fifoDir makes a folder that only this user can enter.
func fifoDir() (string, error) {
	var err error
	for _, parent := range fifoDirs {
		var dir string
		if dir, err = os.MkdirTemp(parent, "c"); err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err = os.MkdirAll(parent, 0o711); err != nil {
			continue
		}
		if dir, err = os.MkdirTemp(parent, "c"); err == nil {
			return dir, nil
		}
	}
	return "", err
}

func (s *streams) fifo(name string, flag int) (string, *os.File, error) {
	path := filepath.Join(s.dir, name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return "", nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	f, err := os.OpenFile(path, flag, 0)
	return path, f, err
}

// connect begins to copy, after the process was started: by then the shim has
// opened its ends, so an end of file means that the process has closed them.
func (s *streams) connect(closeStdin func()) {
	if s.outFile != nil {
		s.copied.Go(func() { io.Copy(s.io.Stdout, s.outFile) })
	}
	if s.errFile != nil {
		s.copied.Go(func() { io.Copy(s.io.Stderr, s.errFile) })
	}
	if s.inFile != nil {
		go func() { // ends with its input, or with the program
			io.Copy(s.inFile, s.io.Stdin)
			s.inFile.Close()
			closeStdin()
		}()
	}
}

// wait returns when all output has been copied.
func (s *streams) wait() { s.copied.Wait() }

// close gives the terminal back and removes the fifos.
func (s *streams) close() {
	s.restore()
	for _, f := range []*os.File{s.outFile, s.errFile} {
		if f != nil {
			f.Close()
		}
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}

// raw puts this program's terminal into raw mode, if it has one.
func (s *streams) raw() {
	f, ok := s.io.Stdin.(*os.File)
	if !s.io.Terminal || !s.io.Interactive || !ok {
		return
	}
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return // no terminal
	}
	mode := *old
	mode.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	mode.Oflag &^= unix.OPOST
	mode.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	mode.Cflag = mode.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(fd, unix.TCSETS, &mode) == nil {
		s.restore = sync.OnceFunc(func() { unix.IoctlSetTermios(fd, unix.TCSETS, old) })
	}
}

// TerminalSize is the size of the terminal that f is, ok if it is one.
func TerminalSize(f any) (width, height uint, ok bool) {
	file, isFile := f.(*os.File)
	if !isFile {
		return 0, 0, false
	}
	ws, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, false
	}
	return uint(ws.Col), uint(ws.Row), true
}

// forward passes signals on to the process, and the terminal's size, until the
// returned function is called.
func (c *Client) forward(ctx context.Context, p *Process, o IO) func() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-signals:
				c.signal(ctx, p, o, sig.(syscall.Signal))
			case <-done:
				return
			}
		}
	}()
	if o.Terminal {
		c.resize(ctx, p, o)
	}
	return func() { signal.Stop(signals); close(done) }
}

func (c *Client) signal(ctx context.Context, p *Process, o IO, sig syscall.Signal) {
	if sig == unix.SIGWINCH {
		if o.Terminal {
			c.resize(ctx, p, o)
		}
		return
	}
	tasks.NewTasksClient(c.conn).Kill(ctx, &tasks.KillRequest{ContainerID: p.Container, ExecID: p.Exec, Signal: uint32(sig)})
}

// resize gives the process's terminal the size of this one.
func (c *Client) resize(ctx context.Context, p *Process, o IO) {
	if w, h, ok := TerminalSize(o.Stdout); ok && w > 0 {
		tasks.NewTasksClient(c.conn).ResizePty(ctx, &tasks.ResizePtyRequest{
			ContainerID: p.Container, ExecID: p.Exec, Width: uint32(w), Height: uint32(h),
		})
	}
}
