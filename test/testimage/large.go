package testimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// The large image is that of the budget for pulling: 4 layers, up to 16,000
// entries, 290 MB of tar and 120 MB of gzip. Its files are this machine's, from
// /usr, and in each layer one of noise, for /usr alone compresses too well.
const (
	LargeLayers  = 4
	layerEntries = 4000
	layerBytes   = 70 << 20
	noiseBytes   = 10 << 20
)

// LargeLayer calls take with the tar of each layer of the large image, which is
// take's own.
func LargeLayer(take func(raw []byte) error) error { return largeLayers(LargeLayers, take) }

func largeLayers(n int, take func(raw []byte) error) error {
	l := &large{take: take, most: n}
	if err := l.begin(); err != nil {
		return err
	}
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

// begin starts a layer with its noise.
func (l *large) begin() error {
	l.b, l.entries = new(bytes.Buffer), 1
	l.w = tar.NewWriter(l.b)
	noise := make([]byte, noiseBytes)
	rand.NewChaCha8([32]byte{byte(l.layers)}).Read(noise)
	h := &tar.Header{Name: fmt.Sprintf("noise%d", l.layers), Mode: 0o644, Size: noiseBytes}
	if err := l.w.WriteHeader(h); err != nil {
		return err
	}
	_, err := l.w.Write(noise)
	return err
}

func (l *large) cut() error {
	if err := l.w.Close(); err != nil {
		return err
	}
	raw := l.b.Bytes()
	l.layers++
	if err := l.begin(); err != nil {
		return err
	}
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
