package engine

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/services/spec"
)

// Bounds of what is kept of images' accounts: 4 MiB at most.
const (
	maxKept     = 64
	maxKeptFile = 32 << 10 // bytes of one file
)

// userFiles are an image's /etc/passwd and /etc/group, nil for one that it lacks.
// They are a file system of these two files.
type userFiles map[string][]byte

// accountFiles are the files that users are looked up in.
var accountFiles = []string{"etc/passwd", "etc/group"}

// keptAccounts keeps the accounts of the images that were last used: they are the
// same as long as a container has not written to its /etc.
type keptAccounts struct {
	mu    sync.Mutex
	of    map[string]userFiles
	order []string // the last used at the end
}

func (k *keptAccounts) get(key string) (userFiles, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a, ok := k.of[key]
	if ok {
		k.use(key)
	}
	return a, ok
}

func (k *keptAccounts) put(key string, a userFiles) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil {
		k.of = map[string]userFiles{}
	}
	k.of[key] = a
	k.use(key)
	if len(k.order) > maxKept {
		delete(k.of, k.order[0])
		k.order = k.order[1:]
	}
}

// use moves a key to the end. Called with mu held.
func (k *keptAccounts) use(key string) {
	kept := k.order[:0]
	for _, o := range k.order {
		if o != key {
			kept = append(kept, o)
		}
	}
	k.order = append(kept, key)
}

// withAccounts calls fn with the tree in which names of users are looked up, nil if
// ids are given. Symbolic links can't lead out of it.
func (e *Engine) withAccounts(ctx context.Context, c *Container, rootfs []mount.Mount, o spec.Options, fn func(fs.FS) error) error {
	if !spec.NeedsAccounts(o.User, o.ExtraGroups) {
		return fn(nil)
	}
	key := e.accountsKey(ctx, c, rootfs)
	if a, ok := e.accounts.get(key); ok && key != "" {
		return fn(a)
	}
	return mounts.WithTempReadOnly(ctx, rootfs, func(dir string) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		if a, ok := readAccounts(root); ok && key != "" {
			e.accounts.put(key, a)
		}
		return fn(root.FS())
	})
}

// accountsKey names the image's tree below a container's, "" if the container may
// see another /etc: only the upper folder of an overlay tells that it doesn't.
func (e *Engine) accountsKey(ctx context.Context, c *Container, rootfs []mount.Mount) string {
	if len(rootfs) != 1 || rootfs[0].Type != "overlay" {
		return ""
	}
	upper := ""
	for _, o := range rootfs[0].Options {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			upper = dir
		}
	}
	if upper == "" {
		return ""
	}
	if _, err := os.Lstat(filepath.Join(upper, "etc")); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	c.mu.Lock()
	name, key := c.stored.Snapshotter, c.stored.SnapshotKey
	c.mu.Unlock()
	s, err := e.Snapshots(name)
	if err != nil {
		return ""
	}
	info, err := s.Stat(ctx, key)
	if err != nil || info.Parent == "" {
		return ""
	}
	return name + "/" + info.Parent
}

// readAccounts reads what is small enough to be kept. Where a link is on the way
// more than /etc would have to be watched: nothing is kept.
func readAccounts(root *os.Root) (userFiles, bool) {
	if info, err := root.Lstat("etc"); errors.Is(err, fs.ErrNotExist) {
		return userFiles{}, true
	} else if err != nil || !info.IsDir() {
		return nil, false
	}
	a := userFiles{}
	for _, name := range accountFiles {
		info, err := root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxKeptFile {
			return nil, false
		}
		data, err := root.ReadFile(name)
		if err != nil || len(data) > maxKeptFile {
			return nil, false
		}
		a[name] = data
	}
	return a, true
}

// Open implements [fs.FS].
func (a userFiles) Open(name string) (fs.File, error) {
	data, ok := a[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return accountFile{bytes.NewReader(data), filepath.Base(name)}, nil
}

// accountFile is one of the files, and its own information.
type accountFile struct {
	*bytes.Reader
	name string
}

func (f accountFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f accountFile) Close() error               { return nil }
func (f accountFile) Name() string               { return f.name }
func (f accountFile) Mode() fs.FileMode          { return 0o444 }
func (f accountFile) ModTime() time.Time         { return time.Time{} }
func (f accountFile) IsDir() bool                { return false }
func (f accountFile) Sys() any                   { return nil }
