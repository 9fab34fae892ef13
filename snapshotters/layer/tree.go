package layer

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxOpenDirs bounds the descriptors a tree keeps.
const maxOpenDirs = 256

// tree is a directory being written. Directories in use are kept open, by the
// path the archive calls them.
type tree struct {
	root *node
	base *node // of Options.Base
	dirs map[string]*node
	open []*node
	opts *Options

	// made remembers what this layer created, so that its whiteouts leave it
	// alone. Hashes, for a layer may have millions of names.
	made map[uint64]struct{}
	seed maphash.Seed

	lastPath string
	last     *node
	aliased  bool // some names in dirs lead through symbolic links
}

// node is an open directory.
type node struct {
	fd     int
	path   string // without symbolic links; "" is the root
	setgid bool   // new files take its group
}

func openTree(root string, opts *Options) (*tree, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	n, err := newNode(fd, "")
	if err != nil {
		return nil, err
	}
	t := &tree{root: n, dirs: map[string]*node{}, opts: opts, made: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
	if opts.Base != nil && opts.Under != "" {
		var st unix.Stat_t
		if err := unix.Fstat(int(opts.Base.Fd()), &st); err != nil {
			t.close()
			return nil, err
		}
		t.base = &node{fd: int(opts.Base.Fd()), path: opts.Under, setgid: st.Mode&unix.S_ISGID != 0}
	}
	return t, nil
}

func newNode(fd int, path string) (*node, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &node{fd: fd, path: path, setgid: st.Mode&unix.S_ISGID != 0}, nil
}

func (t *tree) close() {
	t.forget()
	unix.Close(t.root.fd)
}

// forget closes all directories but the root: after one was removed, and when
// there are too many.
func (t *tree) forget() {
	for _, n := range t.open {
		unix.Close(n.fd)
	}
	t.open = t.open[:0]
	clear(t.dirs)
	t.lastPath, t.last, t.aliased = "", nil, false
}

// trim bounds the open directories. It is called between entries, when none is
// in use.
func (t *tree) trim() {
	if len(t.open) >= maxOpenDirs {
		t.forget()
	}
}

// clean makes an archive's name a path below the root: no leading slash, no
// "." or "..", empty for the root itself.
func clean(name string) (string, error) {
	if len(name) > maxName {
		return "", fmt.Errorf("name of %d bytes: %w", len(name), ErrLimit)
	}
	if isClean(name) {
		return name, nil
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			if len(parts) == 0 {
				return "", fmt.Errorf("%q: %w", name, ErrBreakout)
			}
			parts = parts[:len(parts)-1]
		default:
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/"), nil
}

// CleanName makes an archive's name a path below the root: no leading slash, no
// "." or "..", empty for the root itself. One that climbs out is [ErrBreakout].
func CleanName(name string) (string, error) { return clean(name) }

func isClean(name string) bool {
	if name == "" || name[0] == '/' || name[len(name)-1] == '/' {
		return false
	}
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if part := name[start:i]; part == "" || part == "." || part == ".." {
			return false
		}
		start = i + 1
	}
	return true
}

func split(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// dir opens the directory called path (cleaned). Missing ones are made if make
// is set; symbolic links are followed inside the tree.
func (t *tree) dir(path string, make bool) (*node, error) {
	if path == "" {
		return t.root, nil
	}
	if t.last != nil && path == t.lastPath {
		return t.last, nil
	}
	n, ok := t.known(path)
	if !ok {
		links := 0
		var err error
		if n, err = t.walk(path, make, &links); err != nil {
			return nil, err
		}
		t.dirs[path] = n
	}
	t.lastPath, t.last = path, n
	return n, nil
}

// known finds a directory that is open.
func (t *tree) known(path string) (*node, bool) {
	if t.base != nil && path == t.base.path {
		return t.base, true
	}
	n, ok := t.dirs[path]
	return n, ok
}

// walk goes from the nearest open ancestor down, a component at a time.
func (t *tree) walk(path string, make bool, links *int) (*node, error) {
	at, rest := t.root, path
	for end := strings.LastIndexByte(path, '/'); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if n, ok := t.known(path[:end]); ok {
			at, rest = n, path[end+1:]
			break
		}
	}
	for rest != "" {
		name, after, _ := strings.Cut(rest, "/")
		next, link, err := t.step(at, name, make)
		if err != nil {
			return nil, err
		}
		if link == "" {
			at, rest = next, after
			continue
		}
		t.aliased = true
		if *links++; *links > maxLinks {
			return nil, fmt.Errorf("%q: %w", path, unix.ELOOP)
		}
		// The link's text goes on where the link was; only real directories
		// are in at.path, so that ".." is what it says.
		joined := link + "/" + after
		if link[0] != '/' {
			joined = at.path + "/" + joined
		}
		return t.walk(clamp(joined), make, links)
	}
	return at, nil
}

// clamp cleans a link's destination as a chroot would: ".." of the root is the
// root. A name that is cancelled by a ".." is not looked at.
func clamp(path string) string {
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", ".":
		case "..":
			parts = parts[:max(0, len(parts)-1)]
		default:
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

// step opens one component, or returns the text of the symbolic link it is.
func (t *tree) step(at *node, name string, make bool) (*node, string, error) {
	path := name
	if at.path != "" {
		path = at.path + "/" + name
	}
	if len(path) > maxName {
		return nil, "", fmt.Errorf("path of %d bytes: %w", len(path), ErrLimit)
	}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat(at.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			n, err := newNode(fd, path)
			if err != nil {
				return nil, "", err
			}
			t.open = append(t.open, n)
			t.dirs[path] = n
			return n, "", nil
		}
		if (errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR)) && tries == 0 {
			if link, lerr := readlinkat(at.fd, name); lerr == nil && link != "" {
				return nil, link, nil
			}
		}
		if !make || tries > 0 {
			return nil, "", &os.PathError{Op: "open directory", Path: path, Err: err}
		}
		if err := t.implied(at, name, path, err); err != nil {
			return nil, "", err
		}
	}
}

// implied makes a directory that the archive doesn't mention but puts files
// in. It takes the place of anything else of that name.
func (t *tree) implied(at *node, name, path string, cause error) error {
	if errors.Is(cause, unix.ENOTDIR) {
		cause = t.overDirectory(at, name)
	} else if errors.Is(cause, unix.ENOENT) {
		cause = unix.Mkdirat(at.fd, name, 0o755)
	}
	if cause != nil {
		return &os.PathError{Op: "make directory", Path: path, Err: cause}
	}
	t.remember(at, name)
	return nil
}

// remove deletes whatever name is, with all below it.
func (t *tree) remove(at *node, name string) error {
	err := unix.Unlinkat(at.fd, name, 0)
	switch {
	case err == nil && t.aliased:
		t.stale() // it may have been a link on the way to a known directory
		return nil
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return &os.PathError{Op: "remove", Path: at.path + "/" + name, Err: err}
	}
	if err := os.RemoveAll(fdPath(at.fd, name)); err != nil {
		return fmt.Errorf("remove %s/%s: %w", at.path, name, err)
	}
	t.stale()
	return nil
}

// stale forgets which names lead where. The descriptors stay open until the
// next trim, for some may be in use.
func (t *tree) stale() {
	clear(t.dirs)
	t.lastPath, t.last, t.aliased = "", nil, false
}

// fdPath is a path for calls that have no fd-relative form. Its last component
// must not be followed by them.
func fdPath(fd int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name
}

func (t *tree) key(at *node, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	h.WriteString(at.path)
	h.WriteByte('/')
	h.WriteString(name)
	return h.Sum64()
}

func (t *tree) remember(at *node, name string) {
	if t.opts.Whiteouts == Resolve {
		t.made[t.key(at, name)] = struct{}{}
	}
}

func (t *tree) isMade(at *node, name string) bool {
	_, ok := t.made[t.key(at, name)]
	return ok
}

func readlinkat(fd int, name string) (string, error) {
	buf := make([]byte, maxName+1)
	n, err := unix.Readlinkat(fd, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
