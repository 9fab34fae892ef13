package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func (r *Rig) orlopctl(args ...string) string {
	r.t.Helper()
	return r.Must(filepath.Join(r.bin, "orlopctl"), append([]string{"-a", r.Socket()}, args...)...)
}

// The shim writes a container's log: nothing is lost or out of order while the
// daemon is killed, and while the shim itself is killed and the container adopted.
func TestLogSurvives(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	log := r.path("logs", "count.log")
	r.Ctr("run", "-d", "--log-uri", "log://"+log+"?max-size=4000&max-file=50", r.Image, "count", "/bin/sh", "-c",
		"i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; [ $((i%2)) = 0 ] && echo err $i >&2; sleep 0.01; done; printf 'no newline'; exit 3")
	time.Sleep(500 * time.Millisecond)
	r.killShims()
	time.Sleep(500 * time.Millisecond)
	r.Stop(9)
	time.Sleep(300 * time.Millisecond)
	r.Start()
	out := r.orlopctl("tasks", "logs", "--follow", "count")
	var want, got strings.Builder
	for i := 1; i <= 300; i++ {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "line ") {
			got.WriteString(line)
		}
	}
	if got.String() != want.String() {
		t.Fatalf("lines are lost or out of order:\n%s", got.String())
	}
	if n := strings.Count(out, "err "); n != 150 {
		t.Errorf("%d lines of standard error, want 150", n)
	}
	expect(t, out, "no newline")
	if files, _ := filepath.Glob(log + "*"); len(files) < 5 {
		t.Errorf("%d files, the log was not rotated", len(files))
	}
	tail := r.orlopctl("tasks", "logs", "--tail", "3", "count")
	for _, want := range []string{"line 300\n", "err 300\n", "no newline"} {
		expect(t, tail, want)
	}
	expect(t, r.Ctr("t", "rm", "count"), "exit code 3")
}

// Who is attached before the start misses nothing. One that doesn't read holds the
// container up, as the reader of a pipe does, and no longer when it goes away.
func TestLogAttach(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	sock := r.path("a", "x")
	r.Ctr("run", "-d", "--log-uri", "log://"+r.path("x.log")+"?attach="+sock, r.Image, "talks", "/bin/sh", "-c",
		"while [ ! -e /go ]; do sleep 0.02; done; echo out; echo err >&2; i=0; while [ $i -lt 20 ]; do i=$((i+1)); cat /bin/busybox; done; echo last")
	attach := func() net.Conn {
		c, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal("no word that it is attached:", err)
		}
		return c
	}
	lazy, c := attach(), attach()
	defer c.Close()
	r.Ctr("t", "exec", "--exec-id", "go", "talks", "/bin/touch", "/go")
	time.AfterFunc(time.Second, func() { lazy.Close() })
	streams := map[byte]*strings.Builder{1: {}, 2: {}}
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		var h [8]byte
		if _, err := io.ReadFull(c, h[:]); err != nil {
			break
		}
		if _, err := io.CopyN(streams[h[0]], c, int64(binary.BigEndian.Uint32(h[4:]))); err != nil {
			t.Fatal("a frame is cut off:", err)
		}
	}
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if want := "out\n" + strings.Repeat(string(box), 20) + "last\n"; streams[1].String() != want {
		t.Errorf("%d bytes of output, want %d", streams[1].Len(), len(want))
	}
	if streams[2].String() != "err\n" {
		t.Errorf("standard error is %q", streams[2])
	}
	r.eventually("STOPPED", func() string { return r.Ctr("t", "ls") })
}

// What a terminal shows is logged, to its last word.
func TestLogTerminal(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	r.orlopctl("run", "-d", "-t", "--id", "tty", "--log", "log://"+r.path("x.log"), r.Image, "/bin/sh", "-c", "test -t 1 && echo a terminal; i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo line $i; done; echo end")
	r.eventually("end", func() string { return r.orlopctl("tasks", "logs", "--tail", "1", "tty") })
	out := r.orlopctl("tasks", "logs", "tty")
	if !strings.HasPrefix(out, "a terminal\r\n") || strings.Count(out, "\n") != 502 {
		t.Fatalf("the log has %d lines:\n%.200s", strings.Count(out, "\n"), out)
	}
}

// A log that can't be written loses lines, and the container goes on.
func TestLogDiskFull(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	dir := r.path("small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r.Must("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", dir)
	defer r.Must("umount", dir)
	out := r.Ctr("run", "--rm", "--log-uri", "log://"+dir+"/x.log", r.Image, "full", "/bin/sh", "-c",
		"i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo a line that fills the disk; done")
	_ = out // it ended well, or Ctr would have failed the test
	if st, err := os.Stat(dir + "/x.log"); err != nil || st.Size() < 8<<10 {
		t.Fatalf("the log has not filled the disk: %v %v", st, err)
	}
}
