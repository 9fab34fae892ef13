package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/logfile"
	"github.com/orlop/orlop/internal/logsink"
)

// logScheme marks streams that the shim writes to a log itself, so that nothing
// waits or is lost while the daemon is down:
//
//	log:///var/lib/…/x.log?max-size=10485760&max-file=5&attr.tag=web&attach=/run/…/a
//
// Sizes are in bytes. Attach names a unix socket that the shim serves, at which
// clients get what is printed from then on (see hub). With driver=…, lines also go to
// where logs are collected (package logsink), whose options are opt.…; about.… tells it
// of the container.
const logScheme = "log"

// logTarget is where such a stream goes.
type logTarget struct {
	path, attach string
	opts         logfile.Options
	buffer       int64 // of a log that never holds up who prints, in bytes; 0: it does
	sink         logsink.Config
}

// parseLog reads a stream's URL; nil if it is of another kind.
func parseLog(target string) (*logTarget, error) {
	if !strings.HasPrefix(target, logScheme+"://") {
		return nil, nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("log %q: %w: %w", target, err, errdefs.ErrInvalidArgument)
	}
	t := &logTarget{path: u.Path, opts: logfile.Options{Attrs: map[string]string{}}, sink: logsink.Config{Options: map[string]string{}}}
	t.sink.Attrs = t.opts.Attrs
	for key, values := range u.Query() {
		if err := t.set(key, values[0]); err != nil {
			return nil, fmt.Errorf("log %q: %w: %w", target, err, errdefs.ErrInvalidArgument)
		}
	}
	if !filepath.IsAbs(t.path) || t.attach != "" && !filepath.IsAbs(t.attach) {
		return nil, fmt.Errorf("log %q: paths must be absolute: %w", target, errdefs.ErrInvalidArgument)
	}
	return t, nil
}

func (t *logTarget) set(key, value string) (err error) {
	if name, ok := strings.CutPrefix(key, "attr."); ok {
		t.opts.Attrs[name] = value
		return nil
	}
	if name, ok := strings.CutPrefix(key, "opt."); ok {
		t.sink.Options[name] = value
		return nil
	}
	if name, ok := strings.CutPrefix(key, "about."); ok {
		return t.sink.About.Set(name, value)
	}
	switch key {
	case "max-size":
		t.opts.MaxSize, err = strconv.ParseInt(value, 10, 64)
	case "max-file":
		t.opts.MaxFiles, err = strconv.Atoi(value)
	case "compress":
		t.opts.Compress, err = strconv.ParseBool(value)
	case "buffer":
		t.buffer, err = strconv.ParseInt(value, 10, 64)
	case "driver":
		t.sink.Driver = value
	case "attach":
		t.attach = value
	default:
		return fmt.Errorf("unknown option %q", key)
	}
	return err
}

// recorder writes what a process prints to its log and to those who are attached.
// The process holds both ends of its fifos: without a shim it waits once they are
// full, and goes on when another shim has adopted it.
type recorder struct {
	w     *logfile.Writer
	hub   *hub
	pumps sync.WaitGroup
	sink  *logsink.Sink  // nil: the file is all
	queue *logsink.Queue // before the file; nil: who prints waits for it
	kept  chan struct{}  // closed when the queue is in the file

	mu     sync.Mutex
	warned time.Time
}

func openRecorder(t *logTarget) (*recorder, error) {
	if err := os.MkdirAll(filepath.Dir(t.path), 0o700); err != nil {
		return nil, err
	}
	w, err := logfile.Create(t.path, t.opts)
	if err != nil {
		return nil, err
	}
	r := &recorder{w: w}
	if t.sink.Driver != "" {
		r.sink, err = logsink.Open(&t.sink, func(err error) { log.L.WithError(err).Warnf("log of container %s", t.sink.About.ID) })
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	if r.hub, err = openHub(t.attach); err != nil {
		if r.sink != nil {
			r.sink.Close(0)
		}
		return nil, errors.Join(err, w.Close())
	}
	if t.buffer > 0 {
		r.queue, r.kept = logsink.NewQueue(t.buffer, false), make(chan struct{})
		go r.keep()
	}
	return r, nil
}

// keep writes the queue to the file.
func (r *recorder) keep() {
	defer close(r.kept)
	for {
		e, ok := r.queue.First()
		if !ok {
			return
		}
		r.write(e)
		r.queue.Pop()
	}
}

// fifo makes a stream's fifo and begins to read it; the file is the process's end.
// One that is there already is that of an adopted process.
func (r *recorder) fifo(path string, stream logfile.Stream) (*os.File, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("fifo %s: %w", path, err)
	}
	// Not os.OpenFile: what the process gets must block.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fifo %s: %w", path, err)
	}
	end := os.NewFile(uintptr(fd), path)
	in, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		end.Close()
		return nil, err
	}
	r.pumps.Go(func() {
		defer in.Close()
		r.record(in, stream)
	})
	return end, nil
}

// record copies until the end. Errors of the log lose lines, never hold the process up.
func (r *recorder) record(in io.Reader, stream logfile.Stream) {
	buf := make([]byte, logfile.MaxLine)
	have := 0
	for {
		n, err := in.Read(buf[have:])
		if n > 0 {
			r.hub.send(stream, buf[have:have+n])
			have = r.lines(buf, have+n, stream)
		}
		if err != nil {
			if have > 0 {
				r.line(buf[:have], stream)
			}
			return
		}
	}
}

// lines writes the whole lines at the beginning of buf, and a part if it is full,
// and returns how much is left, moved to the front.
func (r *recorder) lines(buf []byte, have int, stream logfile.Stream) int {
	rest := buf[:have]
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		r.line(rest[:i+1], stream)
		rest = rest[i+1:]
	}
	if len(rest) == len(buf) {
		r.line(rest, stream)
		return 0
	}
	return copy(buf, rest)
}

// warnEvery is how often a log that can't be written is complained about.
const warnEvery = time.Minute

func (r *recorder) line(b []byte, stream logfile.Stream) {
	e := logfile.Entry{Line: b, Stream: stream, Time: time.Now()}
	if r.queue != nil {
		r.queue.Put(e)
	} else {
		r.write(e)
	}
	if r.sink != nil {
		r.sink.Write(e)
	}
}

func (r *recorder) write(e logfile.Entry) {
	err := r.w.Write(e)
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.warned) > warnEvery {
		r.warned = time.Now()
		log.L.WithError(err).Warn("lines of a container are lost")
	}
}

// close closes log and hub when the streams have ended. Its caller waits, as long
// as may: another process may hold the streams, or a client not read.
func (r *recorder) close(may time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.pumps.Wait()
		r.hub.close()
		if r.queue != nil {
			r.queue.Close()
			<-r.kept
		}
		if r.sink != nil {
			r.sink.Close(may)
		}
		r.w.Close()
	}()
	select {
	case <-done:
	case <-time.After(may):
	}
}
