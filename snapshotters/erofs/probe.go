package erofs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters/layer"
)

// probe mounts an empty image below root and an overlay on top of it: the
// kernel may be too old for files as devices (< 6.12), or root may be stacked
// too deep already.
func probe(root string) (err error) {
	dir, err := os.MkdirTemp(root, "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tar, image := filepath.Join(dir, tarName), filepath.Join(dir, imageName)
	t, err := readTree(context.Background(), bytes.NewReader(make([]byte, 1024)), limits{entries: 1})
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := writeImage(&b, t, 1024); err != nil {
		return err
	}
	if err := os.WriteFile(tar, make([]byte, 1024), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(image, b.Bytes(), 0o600); err != nil {
		return err
	}
	fs, other := filepath.Join(dir, "fs"), filepath.Join(dir, "other")
	for _, d := range []string{fs, other} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := mounts.All([]mount.Mount{layerMount(image, tar)}, fs); err != nil {
		return fmt.Errorf("this kernel can't mount files as EROFS (Linux 6.12 can): %w: %w", err, errdefs.ErrNotImplemented)
	}
	defer func() { err = errors.Join(err, mounts.UnmountAll(fs, true)) }()
	o := mount.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + mounts.EscapeLayer(fs) + ":" + mounts.EscapeLayer(other)}}
	if err := mounts.WithTemp(context.Background(), []mount.Mount{o}, func(string) error { return nil }); err != nil {
		return fmt.Errorf("no overlay on top of EROFS here: %w: %w", err, errdefs.ErrNotImplemented)
	}
	return nil
}

// keeper is a reader that writes what passes into a file, and has the kernel
// begin to store it, so that the sync at the end is short.
type keeper struct {
	src     io.Reader
	dst     *os.File
	limit   int64 // of file data; the tar may be this and its headers
	size    int64
	started int64
}

// writeback is how much is handed to the disk at once.
const writeback = 8 << 20

func (k *keeper) Read(p []byte) (int, error) {
	n, err := k.src.Read(p)
	if n > 0 {
		if _, werr := k.dst.Write(p[:n]); werr != nil {
			return 0, werr
		}
		k.size += int64(n)
	}
	// Headers and padding at most treble a layer of tiny files; an archive's
	// tail has no use at all.
	if k.limit > 0 && k.size/3 > k.limit+layer.DefaultMaxEntries*512 {
		return 0, fmt.Errorf("tar of more than %d bytes: %w", k.size, layer.ErrLimit)
	}
	if k.size-k.started >= writeback {
		// Only a hint.
		_ = unix.SyncFileRange(int(k.dst.Fd()), k.started, k.size-k.started, unix.SYNC_FILE_RANGE_WRITE)
		k.started = k.size
	}
	return n, err
}
