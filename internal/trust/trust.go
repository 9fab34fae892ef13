// Package trust tells whether other users of the host could have made or could
// replace a file that the daemon relies on: its config, the folders of its
// sockets and of the programs it starts.
//
// A path is only as trustworthy as every folder on the way to it, since who may
// write a folder may rename what is in it. A sticky folder such as /tmp protects
// the entries of each user from the others (chmod(2), S_ISVTX), so it is fine
// above something that exists. All functions only read and are safe for
// concurrent use.
package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
)

// others is the permission of everyone to write.
const others = 0o002

// Folder checks a folder and all above it. One that does not exist yet is
// trusted as its nearest parent that does. The error is of class
// PermissionDenied and says what to do.
func Folder(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for {
		if err := one(path); err != nil {
			return err
		}
		up := filepath.Dir(path)
		if up == path {
			return nil
		}
		path = up
	}
}

func one(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if mode := info.Mode(); mode.Perm()&others != 0 && mode&fs.ModeSticky == 0 {
		return fmt.Errorf("every user can write to the folder %s (mode %#o); run: chmod o-w %s: %w", dir, mode.Perm(), dir, errdefs.ErrPermissionDenied)
	}
	if uid := Owner(info); !Trusted(uid) {
		return fmt.Errorf("the folder %s belongs to user %d, not to root: %w", dir, uid, errdefs.ErrPermissionDenied)
	}
	return nil
}

// File checks a file by its info, and the folders above it; where the path is a
// link, also those above the file that it leads to.
func File(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&others != 0 {
		return fmt.Errorf("every user can write this file (mode %#o); run: chmod o-w %s: %w", mode, path, errdefs.ErrPermissionDenied)
	}
	if uid := Owner(info); !Trusted(uid) {
		return fmt.Errorf("this file belongs to user %d, not to root: %w", uid, errdefs.ErrPermissionDenied)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		if err := Folder(filepath.Dir(real)); err != nil {
			return err
		}
	}
	return Folder(filepath.Dir(path))
}

// Trusted users, whose files may steer the daemon, are root and the one that it runs as.
func Trusted(uid int) bool { return uid == 0 || uid == os.Geteuid() || uid == hostRoot() }

// hostRoot is who the owner of the root folder is: in a user namespace that the host's
// root isn't in, it has the number of nobody. So have all others; who starts a daemon
// there looks at its folders before.
var hostRoot = sync.OnceValue(func() int {
	info, err := os.Stat("/")
	if err != nil || Owner(info) != nobody {
		return 0
	}
	return nobody
})

// nobody is what the kernel shows for those without a number in a user namespace.
const nobody = 65534

// Owner returns the user a file belongs to.
func Owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return 0
}
