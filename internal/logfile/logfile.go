// Package logfile keeps what containers print in files, in the format of Docker's
// json-file driver: one JSON object a line, with rotation.
//
// # Files
//
// A log at path is path itself, which is written to, and path.1, path.2, … up to
// the number of files kept, the newest first. Rotation renames; nothing is copied.
//
// # Crash
//
// Lines are appended with one write each and not synced: what a power cut takes is the
// end. A torn last line is ended by the next Writer and passed over by readers.
//
// # Concurrency
//
// One Writer may be used by many goroutines; there must be one Writer for a log.
// Any number of readers, in any process, may read meanwhile.
package logfile

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// Stream says where a line was printed.
type Stream string

// The streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Entry is one line, or a part of a long one.
type Entry struct {
	// Line is what was printed; a part that is not the last has no newline.
	Line []byte
	// Stream is where.
	Stream Stream
	// Time is when, in UTC.
	Time time.Time
	// Attrs are the labels and variables that the log's options name.
	Attrs map[string]string
}

// MaxLine bounds the bytes of one entry; longer lines are several (Docker's bound).
const MaxLine = 16 << 10

// Options bound a log.
type Options struct {
	// MaxSize is how many bytes a file may have before it is rotated; 0 is no bound.
	MaxSize int64
	// MaxFiles is how many files are kept, the current one among them; at least 1.
	MaxFiles int
	// Compress packs files that were rotated, by gzip; their names end in .gz.
	Compress bool
	// Attrs are added to each entry.
	Attrs map[string]string
}

// Writer appends to a log.
type Writer struct {
	path  string
	opts  Options
	attrs []byte // encoded, with its key

	packing sync.WaitGroup

	mu   sync.Mutex
	file *os.File
	size int64
	buf  []byte
}

// Create opens a log for writing, making it if it is missing.
func Create(path string, opts Options) (*Writer, error) {
	w := &Writer{path: path, opts: opts}
	w.opts.MaxFiles = max(opts.MaxFiles, 1)
	if len(opts.Attrs) > 0 {
		text, err := json.Marshal(opts.Attrs)
		if err != nil {
			return nil, err
		}
		w.attrs = append([]byte(`,"attrs":`), text...)
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, w.mend()
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("log: %w", err)
	}
	w.file, w.size = f, st.Size()
	return nil
}

// mend ends a line that a crash has torn.
func (w *Writer) mend() error {
	if w.size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := w.file.ReadAt(last[:], w.size-1); err != nil {
		return fmt.Errorf("log %s: %w", w.path, err)
	}
	if last[0] == '\n' {
		return nil
	}
	n, err := w.file.Write([]byte{'\n'})
	w.size += int64(n)
	return err
}

// Write appends an entry.
func (w *Writer) Write(e Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return fmt.Errorf("log %s: %w", w.path, os.ErrClosed)
	}
	w.buf = w.encode(w.buf[:0], e)
	if w.opts.MaxSize > 0 && w.size > 0 && w.size+int64(len(w.buf)) > w.opts.MaxSize {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	n, err := w.file.Write(w.buf)
	w.size += int64(n)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}

// rotate moves every file on by one number; the last is dropped.
func (w *Writer) rotate() error {
	w.packing.Wait()
	for n := w.opts.MaxFiles - 1; n > 0; n-- {
		if err := move(w.path, n); err != nil {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	if w.opts.Compress && w.opts.MaxFiles > 1 {
		w.packing.Go(func() { pack(numbered(w.path, 1)) })
	}
	if w.opts.MaxFiles == 1 {
		if err := os.Remove(w.path); err != nil {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	w.file.Close()
	w.file = nil
	return w.open()
}

// numbered is the name of the nth file, the newest being 0.
func numbered(path string, n int) string {
	if n == 0 {
		return path
	}
	return path + "." + strconv.Itoa(n)
}

// Close ends writing.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	w.packing.Wait()
	return err
}

// encode appends an entry as a line of JSON.
func (w *Writer) encode(b []byte, e Entry) []byte {
	b = append(b, `{"log":`...)
	b = appendString(b, e.Line)
	b = append(b, `,"stream":"`...)
	b = append(b, e.Stream...)
	b = append(b, '"')
	b = append(b, w.attrs...)
	b = append(b, `,"time":"`...)
	b = e.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}\n"...)
}

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string. Bytes that are no UTF-8 become U+FFFD, as
// every JSON reader would read them.
func appendString(b, s []byte) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			b = appendByte(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		case r == '\u2028', r == '\u2029': // line ends in JavaScript
			b = append(b, `\u202`...)
			b = append(b, hexDigits[r&0xf])
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}

func appendByte(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	if c < 0x20 || c == 0x7f || c == '<' || c == '>' || c == '&' {
		return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
	}
	return append(b, c)
}
