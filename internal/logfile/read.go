package logfile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Query says which entries to read.
type Query struct {
	// Tail is how many of the last entries to begin with; below 0 is all.
	Tail int
	// Since and Until bound the time; zero is no bound.
	Since, Until time.Time
	// Follow waits for more until Ended is closed, and then reads to the end.
	Follow bool
	Ended  <-chan struct{}
}

// maxEncoded bounds a line of the file: an entry whose every byte is escaped.
const maxEncoded = 6*MaxLine + 64<<10

// maxFiles bounds how many rotated files are looked for.
const maxFiles = 1000

// Read calls fn for each entry, the oldest first. A log that is not there is empty.
func Read(ctx context.Context, path string, q Query, fn func(Entry) error) error {
	r := &reader{ctx: ctx, path: path, q: q, fn: fn}
	files, err := r.open()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
		if r.events != nil {
			r.events.Close()
		}
	}()
	if q.Tail >= 0 {
		if files, err = tail(files, q.Tail); err != nil {
			return fmt.Errorf("log %s: %w", path, err)
		}
	}
	for i, f := range files {
		follow := q.Follow && i == len(files)-1
		for f != nil {
			next, err := r.file(f, follow)
			if f != files[i] {
				f.Close()
			}
			if err != nil {
				return endOf(err)
			}
			f = next
		}
	}
	return nil
}

// errUntil ends reading: what follows is later.
var errUntil = errors.New("past the end of the query")

func endOf(err error) error {
	if errors.Is(err, errUntil) {
		return nil
	}
	return err
}

type reader struct {
	ctx  context.Context
	path string
	q    Query
	fn   func(Entry) error

	events *os.File // inotify on the log's folder, while following
}

// open opens all files, the oldest first. One that is rotated meanwhile is the same
// file under another name: those seen already are left out.
func (r *reader) open() ([]*os.File, error) {
	var files []*os.File
	for n := range maxFiles {
		f, err := openNumbered(r.path, n)
		if os.IsNotExist(err) {
			if n == 0 && r.q.Follow {
				if f, err = r.awaitFile(); f != nil {
					files = append(files, f)
				}
				return files, err
			}
			break
		}
		if err != nil {
			return files, fmt.Errorf("log: %w", err)
		}
		if len(files) > 0 && sameFile(f, files[0]) {
			f.Close()
			continue
		}
		files = append([]*os.File{f}, files...)
	}
	return files, nil
}

func sameFile(a, b *os.File) bool {
	x, err1 := a.Stat()
	y, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// file reads one file from where it stands. With follow it waits for more, and
// returns the file that came after this one when the log was rotated.
func (r *reader) file(f *os.File, follow bool) (next *os.File, err error) {
	buf := bufio.NewReaderSize(f, 64<<10)
	var part []byte
	for r.ctx.Err() == nil {
		line, err := buf.ReadSlice('\n')
		part = append(part, line...)
		switch {
		case err == nil:
			if err := r.line(part); err != nil {
				return next, err
			}
			part = part[:0]
		case errors.Is(err, bufio.ErrBufferFull):
			if len(part) > maxEncoded {
				return next, fmt.Errorf("log %s: a line has more than %d bytes", r.path, maxEncoded)
			}
		case !errors.Is(err, io.EOF):
			return next, fmt.Errorf("log: %w", err)
		case !follow || next != nil || r.finished(f):
			return next, nil // a torn line is passed over
		default:
			// What was still written to a rotated file is read before the next one.
			if next, err = r.more(f); err != nil {
				return next, err
			}
		}
	}
	return next, r.ctx.Err()
}

// record is a line of the file.
type record struct {
	Log    string            `json:"log"`
	Stream Stream            `json:"stream"`
	Attrs  map[string]string `json:"attrs,omitempty"`
	Time   time.Time         `json:"time"`
}

// line hands an entry on; what is no entry is passed over.
func (r *reader) line(b []byte) error {
	var rec record
	if len(bytes.TrimSpace(b)) == 0 || json.Unmarshal(b, &rec) != nil {
		return nil
	}
	if !r.q.Since.IsZero() && rec.Time.Before(r.q.Since) {
		return nil
	}
	if !r.q.Until.IsZero() && rec.Time.After(r.q.Until) {
		return errUntil
	}
	return r.fn(Entry{Line: []byte(rec.Log), Stream: rec.Stream, Time: rec.Time, Attrs: rec.Attrs})
}
