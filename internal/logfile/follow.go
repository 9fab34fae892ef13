package logfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// pollEvery bounds how late news are, should the kernel's word get lost.
const pollEvery = time.Second

// awaitFile waits for a log that isn't there yet; nil if it never came.
func (r *reader) awaitFile() (*os.File, error) {
	if err := r.watch(); err != nil {
		return nil, err
	}
	for {
		f, err := os.Open(r.path)
		if err == nil || !os.IsNotExist(err) {
			return f, err
		}
		if r.ended() {
			return nil, nil
		}
		if err := r.wait(); err != nil {
			return nil, err
		}
	}
}

// more waits until there may be more to read. It returns the file that follows if
// the present one has been rotated.
func (r *reader) more(f *os.File) (next *os.File, err error) {
	if err := r.watch(); err != nil {
		return nil, err
	}
	if next, err = r.after(f); next != nil || err != nil {
		return next, err
	}
	if r.grown(f) || r.ended() {
		return nil, nil
	}
	return nil, r.wait()
}

// after finds the file that was begun when f was rotated; nil if f is the newest.
// If f is gone, what was lost between is passed over.
func (r *reader) after(f *os.File) (*os.File, error) {
	var newer *os.File
	for n := range maxFiles {
		g, err := os.Open(numbered(r.path, n))
		if os.IsNotExist(err) && n > 0 {
			return newer, nil // f is gone: the oldest that is left
		}
		if os.IsNotExist(err) {
			return nil, nil // between two renames
		}
		if err != nil {
			return nil, err
		}
		if sameFile(f, g) {
			g.Close()
			return newer, nil
		}
		if newer != nil {
			newer.Close()
		}
		newer = g
	}
	return newer, nil
}

func (r *reader) grown(f *os.File) bool {
	at, err1 := f.Seek(0, io.SeekCurrent)
	st, err2 := f.Stat()
	return err1 == nil && err2 == nil && st.Size() > at
}

// finished tells whether nobody writes any more and all has been read.
func (r *reader) finished(f *os.File) bool {
	if !r.ended() || r.grown(f) {
		return false
	}
	now, err := os.Stat(r.path)
	mine, merr := f.Stat()
	return err != nil || merr != nil || os.SameFile(now, mine)
}

func (r *reader) ended() bool {
	select {
	case <-r.q.Ended:
		return true
	default:
		return false
	}
}

// watch begins to watch the log's folder; news are kept until wait reads them.
func (r *reader) watch() error {
	if r.events != nil {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("follow log: %w", err)
	}
	r.events = os.NewFile(uintptr(fd), "inotify")
	_, err = unix.InotifyAddWatch(fd, filepath.Dir(r.path), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO)
	if err != nil {
		return fmt.Errorf("follow log %s: %w", r.path, err)
	}
	return nil
}

// wait returns when something happened in the log's folder, when writing or the
// context has ended, or after a while.
func (r *reader) wait() error {
	stop := make(chan struct{})
	defer close(stop)
	if err := r.events.SetReadDeadline(time.Now().Add(pollEvery)); err != nil {
		return err
	}
	go func() {
		select {
		case <-r.q.Ended:
		case <-r.ctx.Done():
		case <-stop:
			return
		}
		r.events.SetReadDeadline(time.Now())
	}()
	if _, err := r.events.Read(make([]byte, 4096)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return r.ctx.Err()
}
