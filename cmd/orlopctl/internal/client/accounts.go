package client

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"time"
)

// accountFiles are the files of an image that users and groups are found in.
const (
	passwdFile = "etc/passwd"
	groupFile  = "etc/group"
)

// accounts is a file system of just those two files.
type accounts map[string][]byte

// readAccounts copies them out of a root file system; one that is too large to
// be remembered is left to whoever reads it there.
func readAccounts(root fs.FS) (accounts, error) {
	a := accounts{}
	for _, name := range []string{passwdFile, groupFile} {
		f, err := root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = errors.New("image's /" + name + " is no file")
		}
		var data []byte
		if err == nil {
			data, err = io.ReadAll(io.LimitReader(f, maxCachedFile+1))
		}
		f.Close()
		if err != nil {
			return nil, err
		}
		a[name] = data
	}
	return a, nil
}

// small reports whether both files were read whole.
func (a accounts) small() bool {
	return len(a[passwdFile]) <= maxCachedFile && len(a[groupFile]) <= maxCachedFile
}

// Open implements [fs.FS].
func (a accounts) Open(name string) (fs.File, error) {
	data, ok := a[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &accountFile{Reader: bytes.NewReader(data), name: name}, nil
}

// accountFile is one of them, open.
type accountFile struct {
	*bytes.Reader
	name string
}

// Stat implements [fs.File].
func (f *accountFile) Stat() (fs.FileInfo, error) { return f, nil }

// Close implements [fs.File].
func (f *accountFile) Close() error { return nil }

// Name implements [fs.FileInfo].
func (f *accountFile) Name() string { return f.name }

// Mode implements [fs.FileInfo].
func (f *accountFile) Mode() fs.FileMode { return 0o444 }

// ModTime implements [fs.FileInfo].
func (f *accountFile) ModTime() time.Time { return time.Time{} }

// IsDir implements [fs.FileInfo].
func (f *accountFile) IsDir() bool { return false }

// Sys implements [fs.FileInfo].
func (f *accountFile) Sys() any { return nil }
