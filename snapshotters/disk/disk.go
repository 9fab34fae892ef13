// Package disk keeps one directory per snapshot ID, for drivers that store
// trees or files on a local file system.
//
// Layout: <root>/snapshots/<id>/ and <root>/trash/. Remove renames into the
// trash and returns; one worker deletes what is there. Open starts the worker,
// which also takes what an earlier process left in the trash; Close waits for
// the deletion under way and leaves the rest to the next Open.
//
// A Store is safe for concurrent use. After a crash a directory exists or it
// does not; what is in it is durable only after Sync.
package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/snapshotters"
)

// Store is a folder of snapshots.
type Store struct {
	root    string
	serial  atomic.Int64
	wake    chan struct{}
	stop    context.CancelFunc
	stopped sync.WaitGroup
	bounds  bounds
}

// Open makes the folders where they are missing, for root's eyes only.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{root, filepath.Join(root, "snapshots"), filepath.Join(root, "trash")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Store{root: root, wake: make(chan struct{}, 1), stop: stop}
	s.serial.Store(time.Now().UnixNano())
	s.wake <- struct{}{}
	s.stopped.Add(1)
	go s.work(ctx)
	return s, nil
}

// Root is the folder given to Open, absolute.
func (s *Store) Root() string { return s.root }

// Path is a file of the snapshot id.
func (s *Store) Path(id string, elem ...string) string {
	return filepath.Join(append([]string{s.root, "snapshots", id}, elem...)...)
}

// Make makes the directory of a snapshot. If fill fails it is taken away again.
func (s *Store) Make(id string, fill func(dir string) error) error {
	if err := CheckID(id); err != nil {
		return err
	}
	dir := s.Path(id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := fill(dir); err != nil {
		return errors.Join(err, s.Remove(id))
	}
	return nil
}

// CheckID refuses IDs that are not of the port's form.
func CheckID(id string) error {
	if len(id) == 0 || len(id) > 64 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("snapshot ID %q is not of the form [a-z0-9-]{1,64}", id)
	}
	return nil
}

// List returns the IDs of all snapshots.
func (s *Store) List() ([]string, error) {
	f, err := os.Open(filepath.Join(s.root, "snapshots"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Remove puts the snapshot into the trash. An unknown ID is no error.
func (s *Store) Remove(id string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	name := id + "." + strconv.FormatInt(s.serial.Add(1), 36)
	err := os.Rename(s.Path(id), filepath.Join(s.root, "trash", name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return err
}

// work empties the trash whenever something was put there.
func (s *Store) work(ctx context.Context) {
	defer s.stopped.Done()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		trash := filepath.Join(s.root, "trash")
		ents, _ := os.ReadDir(trash)
		for _, e := range ents {
			if ctx.Err() != nil {
				return
			}
			// What can't be deleted now stays for the next Open.
			_ = os.RemoveAll(filepath.Join(trash, e.Name()))
		}
	}
}

// Sync makes everything below the root durable, with one syncfs.
func (s *Store) Sync() error {
	f, err := os.Open(s.root)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: s.root, Err: err}
	}
	return nil
}

// Close waits for the worker.
func (s *Store) Close() error {
	s.stop()
	s.stopped.Wait()
	return nil
}

// Usage measures a directory: inodes, and the bytes they have allocated. Hard
// links count once.
func Usage(ctx context.Context, dir string) (snapshotters.Usage, error) {
	type inode struct{ dev, ino uint64 }
	var u snapshotters.Usage
	seen := map[inode]struct{}{}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) && path != dir {
			return nil // gone meanwhile: an active snapshot is in use
		}
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			if errors.Is(err, unix.ENOENT) {
				return nil
			}
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			id := inode{st.Dev, st.Ino}
			if _, ok := seen[id]; ok {
				return nil
			}
			seen[id] = struct{}{}
		}
		u.Inodes++
		u.Size += st.Blocks * 512
		return ctx.Err()
	})
	return u, err
}

// CopyRoot gives the directory to the owner and mode of the directory from: the
// root of a tree keeps its attributes from one layer to the next.
func CopyRoot(from, to string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return &os.PathError{Op: "stat", Path: from, Err: err}
	}
	if err := os.Chown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Chmod(to, st.Mode&0o7777)
}
