package logsink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Relay is the program that secures a connection. It is one of its own, beside the one
// that asks for it, because TLS makes every shim that links it larger by a third
// (1.6 MiB of memory), and few logs need it.
const Relay = "orlop-tls"

// maxComplaint bounds what is read of why the relay can't connect, in bytes.
const maxComplaint = 1 << 10

// secure is how a connection is secured.
type secure struct{ args []string }

// newSecure reads the options that begin with a prefix.
func newSecure(c *Config, prefix string) (*secure, error) {
	s := &secure{}
	skip, err := flag(c, prefix+"skip-verify")
	if err != nil {
		return nil, err
	}
	if skip {
		s.args = append(s.args, "-skip-verify")
	}
	for _, f := range []struct{ option, flag string }{{"ca-cert", "-ca"}, {"cert", "-cert"}, {"key", "-key"}} {
		path := c.Options[prefix+f.option]
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil || !filepath.IsAbs(path) {
			return nil, bad("log opt %s%s: %q is no absolute path of a file", prefix, f.option, path)
		}
		s.args = append(s.args, f.flag, path)
	}
	if (c.Options[prefix+"cert"] == "") != (c.Options[prefix+"key"] == "") {
		return nil, bad("log opts %scert and %skey go together", prefix, prefix)
	}
	return s, nil
}

// open connects to host:port by the relay.
func (s *secure) open(host string) (net.Conn, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(filepath.Dir(own), Relay)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(Relay); err != nil {
			return nil, fmt.Errorf("a secured connection needs the program %s: %w", Relay, err)
		}
	}
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	var complaint bytes.Buffer
	cmd := exec.Command(path, append(s.args, host)...)
	cmd.Stdin, cmd.Stderr = theirs, &limited{&complaint}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	gone := make(chan struct{})
	go func() { cmd.Wait(); close(gone) }()
	ours.SetReadDeadline(time.Now().Add(dialWait))
	_, err = ours.Read(make([]byte, 1)) // one byte when it is connected
	ours.SetReadDeadline(time.Time{})
	if err == nil {
		return ours, nil
	}
	ours.Close()
	cmd.Process.Kill()
	<-gone
	if text := strings.TrimSpace(complaint.String()); text != "" {
		err = errors.New(text)
	}
	return nil, err
}

// pair makes two ends of a connection.
func pair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	a, b := os.NewFile(uintptr(fds[0]), "relay"), os.NewFile(uintptr(fds[1]), "relay")
	defer a.Close()
	if ours, err = net.FileConn(a); err != nil {
		b.Close()
		return nil, nil, err
	}
	return ours, b, nil
}

// limited takes everything and keeps the beginning.
type limited struct{ to *bytes.Buffer }

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	l.to.Write(p[:min(len(p), max(0, maxComplaint-l.to.Len()))])
	return len(p), nil
}

var _ io.Writer = (*limited)(nil)
