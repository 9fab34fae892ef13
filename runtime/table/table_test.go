package table

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestLayout(t *testing.T) {
	var o op
	for name, pair := range map[string][2]uintptr{
		"args": {unsafe.Offsetof(o.args), 8}, "deref": {unsafe.Offsetof(o.deref), 56},
		"res": {unsafe.Offsetof(o.res), 64}, "tol": {unsafe.Offsetof(o.tol), 72},
		"next": {unsafe.Offsetof(o.next), 80}, "alt": {unsafe.Offsetof(o.alt), 88},
		"errno": {unsafe.Offsetof(header{}.errno), 8},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is at %d, the assembly says %d", name, pair[0], pair[1])
		}
	}
}

// run walks a table to its end and returns the exit status and the table's error.
func run(t *testing.T, tb *Table, c Clone, first Ref) (int, error) {
	t.Helper()
	if err := tb.Run(c, first); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(tb.PID(), &ws, 0, nil)
		if err != unix.EINTR {
			break
		}
	}
	return ws.ExitStatus(), tb.Err()
}

func newTable(t *testing.T) *Table {
	tb, err := New(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tb.Free)
	return tb
}

func TestBranchesAndResults(t *testing.T) {
	for _, share := range []bool{true, false} {
		tb := newTable(t)
		first := tb.Add("dup", unix.SYS_DUP, 2)
		get := tb.Add("fcntl", unix.SYS_FCNTL, Result(first), unix.F_GETFD)
		no := tb.Tolerate(tb.Add("close nothing", unix.SYS_CLOSE, 99999), unix.EBADF)
		bad := tb.Add("unreached", unix.SYS_EXIT_GROUP, 1)
		tb.Else(no)
		word := uint64(tb.Alloc(8))
		tb.Copy(uint64(41), word)
		cmp := tb.Test("compare", At(word), 0xff, 41)
		tb.Add("good", unix.SYS_EXIT_GROUP, 42)
		tb.Else(cmp)
		tb.Add("unreached", unix.SYS_EXIT_GROUP, 2)
		code, err := run(t, tb, Clone{Cgroup: -1, PIDNamespace: -1, Share: share}, first)
		if code != 42 || err != nil {
			t.Errorf("share %v: exit %d, %v", share, code, err)
		}
		if tb.Value(first) < 3 || tb.Value(get) != 0 || tb.Value(bad) != 0 {
			t.Errorf("share %v: results %d %d", share, tb.Value(first), tb.Value(get))
		}
	}
}

func TestErrorNamesTheStep(t *testing.T) {
	tb := newTable(t)
	first := tb.Add("fine", unix.SYS_GETPID)
	tb.Add("open the moon", unix.SYS_OPENAT, ^uint64(99), tb.String("/moon"), 0, 0)
	code, err := run(t, tb, Clone{Cgroup: -1, PIDNamespace: -1, Share: true}, first)
	if code != 127 || !errors.Is(err, syscall.ENOENT) || err.Error() != "open the moon: no such file or directory" {
		t.Errorf("exit %d, %v", code, err)
	}
}

// TestCollectorRunsMeanwhile fails (by hanging) if a parked clone holds up the
// garbage collector.
func TestCollectorRunsMeanwhile(t *testing.T) {
	p, q, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tb := newTable(t)
	buf := tb.Alloc(8)
	first := tb.Add("wait", unix.SYS_READ, int(p.Fd()), buf, 1)
	tb.Add("exec", unix.SYS_EXECVE, tb.String("/bin/true"), tb.Strings([]string{"true"}), tb.Strings(nil))
	done := make(chan error, 1)
	go func() { done <- tb.Run(Clone{Cgroup: -1, PIDNamespace: -1, Share: true}, first) }()
	for range 20 {
		runtime.GC()
	}
	q.Write([]byte{1})
	q.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	unix.Wait4(tb.PID(), &ws, 0, nil)
	if ws.ExitStatus() != 0 || tb.Err() != nil {
		t.Error(ws, tb.Err())
	}
}

func TestManyAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				tb, err := New(0, -1)
				if err != nil {
					t.Error(err)
					return
				}
				first := tb.Add("pid", unix.SYS_GETPID)
				tb.Add("exec", unix.SYS_EXECVE, tb.String("/bin/true"), tb.Strings([]string{"true"}), tb.Strings(nil))
				if code, err := run(t, tb, Clone{Cgroup: -1, PIDNamespace: -1, Share: true}, first); code != 0 || err != nil {
					t.Error(code, err)
				}
				tb.Free()
			}
		})
	}
	wg.Wait()
}

func BenchmarkExecTrue(b *testing.B) {
	for b.Loop() {
		tb, _ := New(0, -1)
		first := tb.Add("pid", unix.SYS_GETPID)
		tb.Add("exec", unix.SYS_EXECVE, tb.String("/bin/true"), tb.Strings([]string{"true"}), tb.Strings(nil))
		tb.Run(Clone{Cgroup: -1, PIDNamespace: -1, Share: true}, first)
		var ws unix.WaitStatus
		unix.Wait4(tb.PID(), &ws, 0, nil)
		tb.Free()
	}
}
