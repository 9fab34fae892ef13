package docker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	api "github.com/moby/moby/api/types/container"

	"github.com/orlop/orlop/internal/detach"
	"github.com/orlop/orlop/internal/hijack"
	"github.com/orlop/orlop/internal/logfile"
	"github.com/orlop/orlop/services/engine"
)

var streamRoutes = []route{
	{method: "POST", path: "/containers/{id}/attach", handle: attach},
	{method: "GET", path: "/containers/{id}/logs", handle: logs},
	{method: "GET", path: "/containers/{id}/stats", handle: stats},
	{method: "POST", path: "/containers/{id}/exec", handle: createExec},
	{method: "POST", path: "/exec/{id}/start", handle: startExec},
	{method: "POST", path: "/exec/{id}/resize", handle: resizeExec},
	{method: "GET", path: "/exec/{id}/json", handle: inspectExec},
}

// Media types of streams.
const (
	rawType   = "application/vnd.docker.raw-stream"
	framesSet = "application/vnd.docker.multiplexed-stream"
)

// streamType is the media type of a container's streams.
func (c *call) streamType(tty bool) string {
	if tty || c.version < multiplexedType {
		return rawType
	}
	return framesSet
}

// frames writes each chunk with a header that says of which stream it is.
type frames struct {
	mu *sync.Mutex // of all streams of a connection
	w  io.Writer
	id byte
}

// Write writes one frame.
func (f frames) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := append(binary.BigEndian.AppendUint32([]byte{f.id, 0, 0, 0}, uint32(len(p))), p...)
	if _, err := f.w.Write(frame); err != nil {
		return 0, err
	}
	return len(p), nil
}

// split makes the writers of both streams; a terminal has one, without frames.
func split(w io.Writer, tty bool) (out, errs io.Writer) {
	if tty {
		return w, w
	}
	mu := &sync.Mutex{}
	return frames{mu, w, 1}, frames{mu, w, 2}
}

// hijack takes the connection over and answers that it was done.
func (c *call) hijack(contentType string) (net.Conn, io.Reader, error) {
	conn, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Time{})
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + contentType + "\r\n\r\n"
	if c.r.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + contentType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nApi-Version: " + MaxVersion + "\r\n\r\n"
	}
	if _, err := io.WriteString(conn, head); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return hijack.AfterHead(conn), rest(buffered.Reader, conn), nil
}

// rest is the connection after what was read of it already.
func rest(b *bufio.Reader, conn net.Conn) io.Reader {
	n := b.Buffered()
	if n == 0 {
		return conn
	}
	return io.MultiReader(io.LimitReader(b, int64(n)), conn)
}

// attachment begins to attach to the container that a request names.
func (s *Server) attachment(c *call) (*engine.Attachment, engine.Streams, error) {
	st := engine.Streams{DetachKeys: c.query("detachKeys")}
	if detach.Check(st.DetachKeys) != nil {
		return nil, st, badRequest("Invalid detach keys (%s) provided", st.DetachKeys)
	}
	a, err := s.engine.Attach(c.r.Context(), c.vars["id"])
	return a, st, err
}

// attach joins the client with a container, which may be started later.
func attach(s *Server, c *call) error {
	a, st, err := s.attachment(c)
	if err != nil {
		return err
	}
	defer a.Close()
	ctx := c.r.Context()
	conn, in, err := c.hijack(c.streamType(a.TTY))
	if err != nil {
		return ignore(err)
	}
	defer conn.Close()
	out, errs := split(conn, a.TTY)
	if c.flag("stdin") {
		st.In = in
	}
	if c.flag("stdout") {
		st.Out = out
	}
	if c.flag("stderr") {
		st.Err = errs
	}
	if c.flag("logs") {
		if err := s.replay(ctx, c.vars["id"], st); err != nil {
			fmt.Fprintf(errs, "Error grabbing logs: %v\n", err)
		}
	}
	if !c.flag("stream") {
		return nil
	}
	return ignore(a.Run(ctx, st))
}

// logs sends what a container has printed.
func logs(s *Server, c *call) error {
	stdout, stderr := c.flag("stdout"), c.flag("stderr")
	if !stdout && !stderr {
		return badRequest("Bad parameters: you must choose at least one stream")
	}
	q := engine.LogQuery{Tail: -1, Follow: c.flag("follow")}
	var err error
	if q.Since, err = engine.ParseTime(c.query("since")); err != nil {
		return err
	}
	if q.Until, err = engine.ParseTime(c.query("until")); err != nil {
		return err
	}
	if text := c.query("tail"); text != "" && text != "all" {
		n, err := c.number("tail")
		if err != nil {
			return err
		}
		q.Tail = *n
	}
	l, err := s.engine.Logs(c.vars["id"])
	if err != nil {
		return err
	}
	out, errs := split(c.begin(c.streamType(l.TTY)), l.TTY)
	stamps, details := c.flag("timestamps"), c.flag("details")
	err = l.Read(c.r.Context(), q, func(e logfile.Entry) error {
		to, wanted := out, stdout
		if e.Stream == logfile.Stderr {
			to, wanted = errs, stderr
		}
		if !wanted {
			return nil
		}
		_, err := to.Write(logLine(e, stamps, details))
		return err
	})
	if err != nil && c.r.Context().Err() == nil {
		fmt.Fprintf(errs, "Error grabbing logs: %v\n", err)
	}
	return nil
}

// stampFormat is RFC 3339 with a fixed number of digits.
const stampFormat = "2006-01-02T15:04:05.000000000Z07:00"

func logLine(e logfile.Entry, stamps, details bool) []byte {
	var prefix string
	if stamps {
		prefix = e.Time.UTC().Format(stampFormat) + " "
	}
	if details {
		var attrs []string
		for _, k := range slices.Sorted(maps.Keys(e.Attrs)) {
			attrs = append(attrs, url.QueryEscape(k)+"="+url.QueryEscape(e.Attrs[k]))
		}
		prefix += strings.Join(attrs, ",") + " "
	}
	return append([]byte(prefix), e.Line...)
}

// statsEvery is how often a stream of figures has news.
const statsEvery = time.Second

// stats sends what a container uses, once or again and again.
func stats(s *Server, c *call) error {
	stream := c.query("stream") == "" || c.flag("stream")
	ctx := c.r.Context()
	v, sample, err := s.engine.Stats(ctx, c.vars["id"])
	if err != nil {
		return err
	}
	var before engine.Sample
	out := newJSONStream(c)
	if !stream && !(c.version >= oneShot && c.flag("one-shot")) && v.State.Running {
		if before, err = sample, pauseFor(ctx, statsEvery); err != nil {
			return nil
		}
		if v, sample, err = s.engine.Stats(ctx, v.ID); err != nil {
			return err
		}
	}
	for {
		if err := out.write(encodeSample(v, sample, before)); err != nil || !stream {
			return nil
		}
		before = sample
		if pauseFor(ctx, statsEvery) != nil {
			return nil
		}
		if v, sample, err = s.engine.Stats(ctx, v.ID); err != nil {
			return nil // it was removed
		}
	}
}

func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func createExec(s *Server, c *call) error {
	var r api.ExecCreateRequest
	if err := c.body(&r, true); err != nil {
		return err
	}
	o := engine.Exec{Args: r.Cmd, Env: r.Env, Cwd: r.WorkingDir, User: r.User, TTY: r.Tty, Privileged: r.Privileged,
		Stdin: r.AttachStdin, Stdout: r.AttachStdout, Stderr: r.AttachStderr, DetachKeys: r.DetachKeys}
	if r.ConsoleSize != nil && c.version >= consoleSize {
		o.Height, o.Width = r.ConsoleSize[0], r.ConsoleSize[1]
	}
	id, err := s.engine.NewExec(c.vars["id"], o)
	if err != nil {
		return err
	}
	return c.send(http.StatusCreated, api.ExecCreateResponse{ID: id})
}

// startExec runs an exec. What goes wrong once the connection is a stream is told
// in the stream; clients find the exit code by inspecting the exec.
func startExec(s *Server, c *call) error {
	var r api.ExecStartRequest
	if err := c.body(&r, false); err != nil {
		return err
	}
	ctx := c.r.Context()
	v, run, err := s.engine.ClaimExec(c.vars["id"])
	if err != nil {
		return err
	}
	if r.Detach {
		if err := run(ctx, nil); err != nil {
			return err
		}
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	// Whether the streams are framed is what this request says, whatever the exec has.
	conn, in, err := c.hijack(c.streamType(r.Tty))
	if err != nil {
		return ignore(err)
	}
	defer conn.Close()
	st := engine.Streams{DetachKeys: v.DetachKeys}
	out, errs := split(conn, r.Tty)
	if v.Stdin {
		st.In = in
	}
	if v.Stdout {
		st.Out = out
	}
	if v.Stderr {
		st.Err = errs
	}
	if err := run(ctx, &st); err != nil && !errors.Is(err, detach.Err) && ctx.Err() == nil {
		fmt.Fprintf(out, "%v\r\n", err)
	}
	return nil
}

func resizeExec(s *Server, c *call) error {
	h, w, err := c.size()
	if err == nil {
		err = s.engine.ResizeExec(c.r.Context(), c.vars["id"], h, w)
	}
	if err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func inspectExec(s *Server, c *call) error {
	v, err := s.engine.InspectExec(c.vars["id"])
	if err != nil {
		return err
	}
	privileged := v.Privileged
	return c.send(http.StatusOK, api.ExecInspectResponse{
		ID: v.ID, Running: v.Running, ExitCode: v.ExitCode, Pid: v.PID, ContainerID: v.Container,
		OpenStdin: v.Stdin, OpenStdout: v.Stdout, OpenStderr: v.Stderr, DetachKeys: []byte(v.DetachKeys),
		ProcessConfig: &api.ExecProcessConfig{Tty: v.TTY, Entrypoint: v.Args[0], Arguments: v.Args[1:], Privileged: &privileged, User: v.User},
	})
}
