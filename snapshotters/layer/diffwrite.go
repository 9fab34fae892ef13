package layer

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pair is an extended attribute.
type pair struct{ name, value string }

// entry writes one file that is no directory.
func (d *differ) entry(dir *os.File, name, path string, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil // a socket without its process is nothing
	}
	if err := d.flushDirs(); err != nil {
		return err
	}
	link := ""
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if link = d.links[id]; link == "" {
			d.links[id] = path
		}
	}
	if err := d.header(dir, name, path, st, link); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || link != "" || st.Size == 0 {
		return nil
	}
	f, err := openFile(dir, name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.content(f, st.Size); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// content writes size bytes of f. Holes are written without being read.
func (d *differ) content(f *os.File, size int64) error {
	for off := int64(0); off < size; {
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			data = size
		} else if err != nil {
			data = off // no support for holes
		}
		data = min(data, size)
		if err := d.zeros(data - off); err != nil {
			return err
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil || hole <= data {
			hole = size
		}
		hole = min(hole, size)
		n, err := io.CopyBuffer(onlyWriter{d.tar}, io.NewSectionReader(f, data, hole-data), d.buf)
		if err != nil {
			return err
		}
		if n != hole-data {
			return fmt.Errorf("file shrank while being read: %w", io.ErrUnexpectedEOF)
		}
		off = hole
	}
	return d.ctx.Err()
}

// onlyWriter hides ReadFrom, so that the buffer given is used.
type onlyWriter struct{ io.Writer }

var zeroBlock [64 << 10]byte

func (d *differ) zeros(n int64) error {
	for n > 0 {
		k := min(n, int64(len(zeroBlock)))
		if _, err := d.tar.Write(zeroBlock[:k]); err != nil {
			return err
		}
		if n -= k; d.ctx.Err() != nil {
			return d.ctx.Err()
		}
	}
	return nil
}

// header writes an entry's header. link makes it a hard link to that name.
func (d *differ) header(dir *os.File, name, path string, st *unix.Stat_t, link string) error {
	h := &tar.Header{
		Name:    path,
		Mode:    int64(st.Mode & 0o7777),
		Uid:     int(st.Uid),
		Gid:     int(st.Gid),
		ModTime: d.cap(time.Unix(st.Mtim.Sec, 0)),
		Format:  tar.FormatPAX,
	}
	if d.opts.MapOwner != nil {
		uid, gid := d.opts.MapOwner(st.Uid, st.Gid)
		h.Uid, h.Gid = int(uid), int(gid)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		text, err := readlinkat(int(dir.Fd()), name)
		if err != nil {
			return err
		}
		h.Linkname = text
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if link != "" {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, link, 0
		return d.tar.WriteHeader(h)
	}
	xs, err := xattrs(dir, name)
	if err != nil {
		return fmt.Errorf("attributes of %s: %w", path, err)
	}
	for _, x := range xs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+x.name] = x.value
	}
	return d.tar.WriteHeader(h)
}

// whiteout writes the mark that name is deleted.
func (d *differ) whiteout(dir, name string) error {
	if err := d.flushDirs(); err != nil {
		return err
	}
	return d.mark(join(dir, whiteoutPrefix+name))
}

// mark writes an empty file that means something. Its time says nothing, so it
// is always the same.
func (d *differ) mark(path string) error {
	return d.tar.WriteHeader(&tar.Header{Name: path, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
}

func (d *differ) cap(at time.Time) time.Time {
	if e := d.opts.SourceDateEpoch; e != nil && at.After(*e) {
		return *e
	}
	return at
}

// xattrs lists an entry's attributes in order, without overlayfs's own and
// without the label of the host's SELinux.
func xattrs(dir *os.File, name string) ([]pair, error) {
	all, err := allXattrs(dir, name)
	return slices.DeleteFunc(all, func(p pair) bool {
		return isOverlayXattr(p.name) || p.name == "security.selinux"
	}), err
}

func allXattrs(dir *os.File, name string) ([]pair, error) {
	path := fdPath(int(dir.Fd()), name)
	n, err := unix.Llistxattr(path, nil)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	buf := make([]byte, n+256)
	if n, err = unix.Llistxattr(path, buf); err != nil {
		return nil, err
	}
	var out []pair
	for key := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if key == "" {
			continue // overlayfs hides its own names after counting them
		}
		value := make([]byte, maxXattr)
		m, err := unix.Lgetxattr(path, key, value)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out = append(out, pair{key, string(value[:m])})
	}
	slices.SortFunc(out, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	return out, nil
}
