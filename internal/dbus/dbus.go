// Package dbus is a small client of D-Bus over a unix socket: enough to call a
// method of systemd's, to read its answer and to wait for a signal.
//
// A Conn is opened for one task and closed after it. It is for one goroutine. No
// goroutine is kept, and nothing survives a crash: the other side forgets a
// connection that ends. What is read is bounded and never trusted to be well
// formed. See the D-Bus specification: https://dbus.freedesktop.org/doc/dbus-specification.html
package dbus

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Bounds of what is read.
const (
	maxMessage = 1 << 20
	maxLine    = 4096
	maxSignals = 4096 // that are kept while a reply is awaited
)

// Message types.
const (
	typeCall   = 1
	typeReply  = 2
	typeError  = 3
	typeSignal = 4
)

// Error is an error that the other side answered.
type Error struct {
	// Name is such as org.freedesktop.systemd1.NoSuchUnit.
	Name string
	// Text is for people.
	Text string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Name
	}
	return e.Text
}

// IsError reports whether an error is an answer of that name.
func IsError(err error, name string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Name == name
}

// Call is a method call.
type Call struct {
	// Destination is the name of the service.
	Destination string
	// Path, Interface and Member name the method.
	Path, Interface, Member string
	// Args are its arguments, of types that Signature knows.
	Args []any
}

// Signal is a signal.
type Signal struct {
	// Interface and Member name it.
	Interface, Member string
	// Args are its arguments.
	Args []any
}

// Conn is a connection.
type Conn struct {
	c       *net.UnixConn
	r       *bufio.Reader
	serial  uint32
	signals []Signal
}

// Dial connects to a peer's socket. bus says that a message bus is behind it, on
// which one has to say hello first.
func Dial(ctx context.Context, path string, bus bool) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c := &Conn{c: nc.(*net.UnixConn), r: bufio.NewReaderSize(nc, maxLine)}
	defer c.bound(ctx)()
	if err := c.authenticate(); err != nil {
		nc.Close()
		return nil, fmt.Errorf("D-Bus socket %s: %w", path, err)
	}
	if !bus {
		return c, nil
	}
	_, err = c.Call(ctx, Call{Destination: "org.freedesktop.DBus", Path: "/org/freedesktop/DBus",
		Interface: "org.freedesktop.DBus", Member: "Hello"})
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("D-Bus socket %s: %w", path, err)
	}
	return c, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.c.Close() }

// bound lets reads and writes end with the context, until the result is called.
func (c *Conn) bound(ctx context.Context) (done func()) {
	stop := context.AfterFunc(ctx, func() { c.c.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// authenticate tells who we are; the peer compares with the socket's credentials.
// All is sent at once: systemd doesn't look at a message that it has read together
// with the end of the authentication until more comes.
func (c *Conn) authenticate() error {
	uid := hex.EncodeToString([]byte(strconv.Itoa(os.Geteuid())))
	if _, err := c.c.Write([]byte("\x00AUTH EXTERNAL " + uid + "\r\nBEGIN\r\n")); err != nil {
		return err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(line), "OK ") {
		return fmt.Errorf("refuses us: %q", line)
	}
	return nil
}

// Call calls a method and waits for its answer.
func (c *Conn) Call(ctx context.Context, call Call) ([]any, error) {
	defer c.bound(ctx)()
	c.serial++
	b, err := call.marshal(c.serial)
	if err != nil {
		return nil, err
	}
	if _, err := c.c.Write(b); err != nil {
		return nil, ended(ctx, err)
	}
	for {
		m, err := c.read()
		switch {
		case err != nil:
			return nil, fmt.Errorf("answer to %s: %w", call.Member, ended(ctx, err))
		case m.kind == typeSignal && len(c.signals) < maxSignals:
			c.signals = append(c.signals, m.signal())
		case m.reply != c.serial:
		case m.kind == typeReply:
			return m.args, nil
		case m.kind == typeError:
			e := &Error{Name: m.fields[fieldError]}
			if len(m.args) > 0 {
				e.Text, _ = m.args[0].(string)
			}
			return nil, e
		}
	}
}

// Await waits for a signal, which may have come since Dial.
func (c *Conn) Await(ctx context.Context, wanted func(Signal) bool) (Signal, error) {
	defer c.bound(ctx)()
	for _, s := range c.signals {
		if wanted(s) {
			return s, nil
		}
	}
	for {
		m, err := c.read()
		if err != nil {
			return Signal{}, ended(ctx, err)
		}
		if s := m.signal(); m.kind == typeSignal && wanted(s) {
			return s, nil
		}
	}
}

// ended prefers the context's error to the time-out that it has caused.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// read reads one message.
func (c *Conn) read() (*message, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return nil, err
	}
	if head[0] != 'l' || head[3] != 1 {
		return nil, errors.New("message of another byte order or protocol")
	}
	body, fields := uint64(binary.LittleEndian.Uint32(head[4:])), uint64(binary.LittleEndian.Uint32(head[12:]))
	size := (16+fields+7)&^7 + body
	if size > maxMessage {
		return nil, fmt.Errorf("message of %d bytes is too large", size)
	}
	b := make([]byte, size)
	copy(b, head)
	if _, err := io.ReadFull(c.r, b[16:]); err != nil {
		return nil, err
	}
	return unmarshal(b)
}
