package testimage

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
)

// The large image is that of the budget for pulling: 4 layers, about 16,000
// entries and 290 MB of tar. Its files are this machine's, from /usr, so that
// they compress as an image does.
const (
	LargeLayers  = 4
	layerEntries = 4000
	layerBytes   = 73 << 20
)

// LargeLayer calls take with the tar of each layer of the large image, which is
// take's own.
func LargeLayer(take func(raw []byte) error) error { return largeLayers(LargeLayers, take) }

func largeLayers(n int, take func(raw []byte) error) error {
	l := &large{take: take, most: n}
	l.begin()
	err := filepath.WalkDir("/usr", l.visit)
	if err == nil && l.layers < n {
		err = l.cut()
	}
	return err
}

type large struct {
	take            func([]byte) error
	b               *bytes.Buffer
	w               *tar.Writer
	entries, layers int
	most            int
}

func (l *large) begin() {
	l.b, l.entries = new(bytes.Buffer), 0
	l.w = tar.NewWriter(l.b)
}

func (l *large) cut() error {
	if err := l.w.Close(); err != nil {
		return err
	}
	raw := l.b.Bytes()
	l.layers++
	l.begin()
	return l.take(raw)
}

func (l *large) visit(path string, e fs.DirEntry, err error) error {
	if err != nil || !e.Type().IsRegular() && !e.IsDir() {
		return err
	}
	fi, err := e.Info()
	if err != nil || fi.Size() > 20<<20 || int64(l.b.Len())+fi.Size() > layerBytes {
		return nil // too large for what is left of this layer
	}
	if err := l.add(path, fi); err != nil {
		return err
	}
	if l.entries++; l.entries < layerEntries && l.b.Len() <= layerBytes-(1<<20) {
		return nil
	}
	if err := l.cut(); err != nil {
		return err
	}
	if l.layers == l.most {
		return fs.SkipAll
	}
	return nil
}

func (l *large) add(path string, fi fs.FileInfo) error {
	h, err := tar.FileInfoHeader(fi, "")
	if err != nil {
		return err
	}
	h.Name = path[1:]
	if fi.IsDir() {
		h.Name += "/"
		return l.w.WriteHeader(h)
	}
	if err := l.w.WriteHeader(h); err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = l.w.Write(data)
	return err
}

// WriteLarge makes an OCI layout of the large image.
func WriteLarge(dir string) error { return WriteLayers(dir, LargeLayers) }

// WriteLayers makes an OCI layout of the first n layers of the large image.
func WriteLayers(dir string, n int) error {
	w := &layout{dir: dir}
	if err := largeLayers(n, w.tar); err != nil {
		return err
	}
	return w.finish()
}
