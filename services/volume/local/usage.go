package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// blockSize is the unit of a file's blocks, in bytes (stat(2)).
const blockSize = 512

type inode struct{ dev, ino uint64 }

// usage is what the files of a tree take on disk, in bytes; one with several names
// counts once. Files that vanish meanwhile are passed over.
func usage(ctx context.Context, root *os.Root) (int64, error) {
	var total int64
	seen := map[inode]bool{}
	err := fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := root.Lstat(name)
		if err != nil {
			return ignoreMissing(err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if st.Nlink > 1 && !info.IsDir() {
			id := inode{uint64(st.Dev), st.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		total += st.Blocks * blockSize
		return nil
	})
	return total, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
