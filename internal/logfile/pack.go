package logfile

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// packed ends the names of files that were compressed, half those of files that are being so.
const (
	packed = ".gz"
	half   = ".tmp"
)

// move makes the file before the nth one the nth, in whatever form it is.
func move(path string, n int) error {
	from, to := numbered(path, n-1), numbered(path, n)
	if err := os.Remove(to + packed); err != nil && !os.IsNotExist(err) {
		return err
	}
	err := os.Rename(from, to)
	if err == nil || !os.IsNotExist(err) {
		return err
	}
	if n == 1 {
		return nil
	}
	if err = os.Rename(from+packed, to+packed); err == nil || os.IsNotExist(err) {
		if err = os.Remove(to); os.IsNotExist(err) {
			err = nil
		}
	}
	return err
}

// pack compresses a file. If that can't be done, it stays as it is; a crash leaves both
// forms, of which readers take the plain one.
func pack(path string) {
	in, err := os.Open(path)
	if err != nil {
		return
	}
	defer in.Close()
	out, err := os.OpenFile(path+half, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	z, _ := gzip.NewWriterLevel(out, gzip.BestSpeed)
	_, err = io.Copy(z, in)
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+half, path+packed)
	}
	if err != nil {
		os.Remove(path + half)
		return
	}
	os.Remove(path)
}

// openNumbered opens the nth file of a log; one that is packed is unpacked into a file
// without a name beside it.
func openNumbered(path string, n int) (*os.File, error) {
	name := numbered(path, n)
	f, err := os.Open(name)
	if n == 0 || !os.IsNotExist(err) {
		return f, err
	}
	in, err := os.Open(name + packed)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(filepath.Dir(path), os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(out, z); err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}
