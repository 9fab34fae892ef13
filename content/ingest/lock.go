package ingest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Lock is the right to write one ingest. It ends with Leave.
type Lock struct {
	Ref string // the ingest's name
	// Dir is the ingest's folder.
	Dir string

	folders *Folders
	// updated is when bytes came last, in nanoseconds, 0 before it is known. A file's
	// own time is as coarse as the kernel's tick.
	updated atomic.Int64
}

// lock returns nil where the ref has a lock already.
func (f *Folders) lock(ref string) *Lock {
	name := folder(ref)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[name] != nil {
		return nil
	}
	l := &Lock{Ref: ref, Dir: filepath.Join(f.root, name), folders: f}
	f.open[name] = l
	return l
}

func (l *Lock) release() {
	l.folders.mu.Lock()
	defer l.folders.mu.Unlock()
	delete(l.folders.open, filepath.Base(l.Dir))
}

// Touch notes when bytes came. Statuses tell it at once.
func (l *Lock) Touch(at time.Time) { l.updated.Store(at.UnixNano()) }

// LastWrite is when bytes came last.
func (l *Lock) LastWrite() time.Time { return time.Unix(0, l.updated.Load()) }

// Recall takes the time of the last write from file, if that is later than the begin.
func (l *Lock) Recall(file *os.File, started time.Time) {
	l.Touch(started)
	if fi, err := file.Stat(); err == nil && fi.ModTime().After(started) {
		l.Touch(fi.ModTime())
	}
}

// Leave closes file and lets another writer have the ref. Before, the file's time is made
// exact, for whoever asks later; settled, if it isn't nil, is called in between. A file
// that is gone was committed.
func (l *Lock) Leave(file *os.File, settled func()) error {
	defer l.release()
	err := os.Chtimes(file.Name(), time.Time{}, l.LastWrite())
	if err == nil && settled != nil {
		settled()
	}
	err = errors.Join(err, file.Close())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Create makes the folder, in place of what a torn ingest left, and saves the note there.
func (l *Lock) Create(note any) error {
	if err := os.RemoveAll(l.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return err
	}
	return Save(l.Dir, note, false)
}
