package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// consoleSocket is where a runtime program hands over the terminal it made.
type consoleSocket struct {
	listener *net.UnixListener
	dir      string
}

// consoleWait bounds the wait for a program that has ended without an error.
const consoleWait = 5 * time.Second

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
	if err := c.listener.SetDeadline(time.Now().Add(consoleWait)); err != nil {
		return nil, err
	}
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
