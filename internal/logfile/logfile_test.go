package logfile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func create(t *testing.T, path string, opts Options) *Writer {
	t.Helper()
	w, err := Create(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func write(t *testing.T, w *Writer, at int, text string) {
	t.Helper()
	err := w.Write(Entry{Line: []byte(text), Stream: Stdout, Time: time.Unix(int64(at), 5)})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string, q Query) string {
	t.Helper()
	var out strings.Builder
	err := Read(t.Context(), path, q, func(e Entry) error { out.Write(e.Line); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var all = Query{Tail: -1}

// What is written is what Docker's json-file driver writes, and what any JSON
// reader reads.
func TestFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	w := create(t, path, Options{Attrs: map[string]string{"tag": "t"}})
	text := "a\"b\\c\t<é>\x00\xff\u2028\r\n"
	err := w.Write(Entry{Line: []byte(text), Stream: Stderr, Time: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(path)
	want := `{"log":"a\"b\\c\t\u003cé\u003e\u0000\ufffd\u2028\r\n","stream":"stderr","attrs":{"tag":"t"},"time":"2026-01-02T03:04:05.0000006Z"}` + "\n"
	if string(got) != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	var e struct{ Log string }
	if err := json.Unmarshal(got, &e); err != nil || e.Log != strings.ToValidUTF8(text, "\ufffd") {
		t.Fatalf("read back as %q (%v)", e.Log, err)
	}
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	w := create(t, path, Options{MaxSize: 200, MaxFiles: 3})
	for i := range 30 {
		write(t, w, i, fmt.Sprintf("line %02d\n", i))
	}
	files, _ := filepath.Glob(path + "*")
	if len(files) != 3 {
		t.Fatalf("%d files, want 3: %v", len(files), files)
	}
	for _, f := range files {
		if st, _ := os.Stat(f); st.Size() > 200 {
			t.Errorf("%s has %d bytes", f, st.Size())
		}
	}
	got := read(t, path, all)
	if !strings.HasSuffix(got, "line 28\nline 29\n") || strings.Contains(got, "line 20\n") {
		t.Fatalf("kept:\n%s", got)
	}
	w.Close()
	again := create(t, path, Options{MaxSize: 200, MaxFiles: 3})
	write(t, again, 99, "after\n")
	if got := read(t, path, all); !strings.HasSuffix(got, "line 29\nafter\n") {
		t.Fatalf("after a second start:\n%s", got)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	w := create(t, path, Options{MaxSize: 300, MaxFiles: 9})
	var lines []string
	for i := range 12 {
		lines = append(lines, fmt.Sprintf("%d\n", i))
		write(t, w, i, lines[i])
	}
	for n := range 14 {
		want := strings.Join(lines[max(0, 12-n):], "")
		if got := read(t, path, Query{Tail: n}); got != want {
			t.Errorf("tail %d: got %q, want %q", n, got, want)
		}
	}
	long := strings.Repeat("x", MaxLine)
	for range 10 {
		write(t, w, 20, long)
	}
	if got := read(t, path, Query{Tail: 9}); got != strings.Repeat(long, 9) {
		t.Errorf("tail of long lines: %d bytes", len(got))
	}
}

func TestTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	w := create(t, path, Options{})
	for i := range 9 {
		write(t, w, i, fmt.Sprint(i))
	}
	q := Query{Tail: -1, Since: time.Unix(3, 0), Until: time.Unix(6, 0)}
	if got := read(t, path, q); got != "345" {
		t.Fatalf("got %q, want 345", got)
	}
}

// A power cut tears the last line; the next writer ends it, readers pass it over.
func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	w := create(t, path, Options{})
	write(t, w, 1, "whole\n")
	write(t, w, 2, "torn\n")
	w.Close()
	st, _ := os.Stat(path)
	if err := os.Truncate(path, st.Size()-9); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path, all); got != "whole\n" {
		t.Fatalf("got %q", got)
	}
	write(t, create(t, path, Options{}), 3, "next\n")
	if got := read(t, path, all); got != "whole\nnext\n" {
		t.Fatalf("after the next start: %q", got)
	}
}

func TestMissing(t *testing.T) {
	if got := read(t, filepath.Join(t.TempDir(), "none"), all); got != "" {
		t.Fatalf("got %q", got)
	}
}

// A follower that begins before the log is there sees each line once, in order,
// through many rotations, and ends when the writer does.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	ended := make(chan struct{})
	var got bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- Read(context.Background(), path, Query{Tail: -1, Follow: true, Ended: ended}, func(e Entry) error {
			got.Write(e.Line)
			return nil
		})
	}()
	time.Sleep(20 * time.Millisecond)
	w := create(t, path, Options{MaxSize: 2000, MaxFiles: 50})
	var want bytes.Buffer
	for i := range 500 {
		text := fmt.Sprintf("line %d\n", i)
		want.WriteString(text)
		write(t, w, i, text)
		if i%50 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	close(ended)
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the follower did not end")
	}
	if got.String() != want.String() {
		t.Fatalf("got %d bytes, want %d:\n%s", got.Len(), want.Len(), got.String())
	}
}

func TestFollowIsCancelled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	write(t, create(t, path, Options{}), 1, "one\n")
	ctx, cancel := context.WithCancel(t.Context())
	err := Read(ctx, path, Query{Tail: -1, Follow: true}, func(Entry) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"log":"x\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}`+"\n"), 1)
	f.Add([]byte("{\n\n}\x00"), 0)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		path := filepath.Join(t.TempDir(), "x.log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		count := 0
		err := Read(t.Context(), path, Query{Tail: n}, func(Entry) error { count++; return nil })
		if err == nil && n >= 0 && count > n {
			t.Fatalf("%d entries, asked for %d", count, n)
		}
	})
}

// Rotated files are packed; who reads sees every line, in order, in either form.
func TestCompress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	opts := Options{MaxSize: 1000, MaxFiles: 4, Compress: true}
	w := create(t, path, opts)
	for i := range 30 {
		write(t, w, i, fmt.Sprintf("line %02d\n", i))
	}
	w.Close()
	files, _ := filepath.Glob(path + "*")
	if got := strings.ReplaceAll(fmt.Sprint(files), path, ""); got != "[ .1.gz .2.gz]" {
		t.Fatalf("files %s", got)
	}
	whole := read(t, path, all)
	if !strings.HasPrefix(whole, "line 00\n") || strings.Count(whole, "\n") != 30 {
		t.Fatalf("read\n%s", whole)
	}
	if got := read(t, path, Query{Tail: 20}); got != whole[10*8:] {
		t.Errorf("tail:\n%s", got)
	}
	// A log that was not packed before, and files that a crash has left in both forms.
	data, _ := os.ReadFile(path)
	os.WriteFile(path+".1", data, 0o600)
	w = create(t, path, opts)
	for i := 30; i < 90; i++ {
		write(t, w, i, fmt.Sprintf("line %02d\n", i))
	}
	w.Close()
	files, _ = filepath.Glob(path + "*")
	if got := strings.ReplaceAll(fmt.Sprint(files), path, ""); got != "[ .1.gz .2.gz .3.gz]" {
		t.Fatalf("files %s", got)
	}
	if got := read(t, path, all); !strings.HasSuffix(got, "line 88\nline 89\n") || strings.Count(got, "\n") > 60 {
		t.Errorf("read\n%s", got)
	}
}
