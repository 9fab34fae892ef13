// Package testimage makes the image that tests and the demo run: busybox, a file,
// and a layer that deletes one.
package testimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// file is an entry of a layer.
type file struct {
	name string
	mode int64
	data string
	link string
}

// Write makes an OCI layout of an image of three layers: busybox, a file,
// and a layer that deletes one.
func Write(dir string) error {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	base := []file{{name: "bin/", mode: 0o755}, {name: "etc/", mode: 0o755}, {name: "tmp/", mode: 0o1777},
		{name: "bin/busybox", mode: 0o755, data: string(busybox)}, {name: "etc/doomed", mode: 0o644, data: "x"},
		{name: "etc/passwd", mode: 0o644, data: "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"}}
	for _, applet := range strings.Fields("sh ls cat echo true false sleep id ps kill grep env pwd mount touch") {
		base = append(base, file{name: "bin/" + applet, link: "busybox"})
	}
	w := &layout{dir: dir, path: "/bin"}
	for _, l := range [][]file{base, {{name: "hello", mode: 0o644, data: "hello from the second layer\n"}}, {{name: "etc/.wh.doomed"}}} {
		if err := w.layer(l); err != nil {
			return err
		}
	}
	return w.finish()
}

// WriteOn makes an OCI layout of an image whose first layer is the tar of a root
// file system; busybox and a file follow, and a layer that deletes a file.
func WriteOn(dir string, rootfs io.Reader) error {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	base, err := io.ReadAll(rootfs)
	if err != nil {
		return err
	}
	w := &layout{dir: dir, path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/busybox"}
	if err := w.tar(base); err != nil {
		return err
	}
	for _, l := range [][]file{
		{{name: "opt/busybox/", mode: 0o755}, {name: "opt/busybox/busybox", mode: 0o755, data: string(busybox)}},
		{{name: "hello", mode: 0o644, data: "hello from the third layer\n"}, {name: "doomed", mode: 0o644, data: "x"}},
		{{name: ".wh.doomed"}},
	} {
		if err := w.layer(l); err != nil {
			return err
		}
	}
	return w.finish()
}

type layout struct {
	dir    string
	path   string // the image's PATH
	config ocispec.Image
	layers []ocispec.Descriptor
}

func (w *layout) blob(mediaType string, data []byte) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	dir := filepath.Join(w.dir, "blobs", "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return d, err
	}
	return d, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256(data))), data, 0o644)
}

func (w *layout) layer(files []file) error {
	var raw bytes.Buffer
	t := tar.NewWriter(&raw)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		switch {
		case f.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.WriteString(t, f.data); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return w.tar(raw.Bytes())
}

// tar adds a layer by its tar.
func (w *layout) tar(raw []byte) error {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(raw)
	if err := z.Close(); err != nil {
		return err
	}
	d, err := w.blob(ocispec.MediaTypeImageLayerGzip, packed.Bytes())
	w.layers = append(w.layers, d)
	w.config.RootFS.DiffIDs = append(w.config.RootFS.DiffIDs, digest.FromBytes(raw))
	return err
}

func (w *layout) finish() error {
	w.config.Platform = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	w.config.Config.Env, w.config.Config.Cmd = []string{"PATH=" + w.path}, []string{"/bin/sh"}
	w.config.RootFS.Type = "layers"
	cfg, err := json.Marshal(w.config)
	if err != nil {
		return err
	}
	config, err := w.blob(ocispec.MediaTypeImageConfig, cfg)
	if err != nil {
		return err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: w.layers}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	desc, err := w.blob(ocispec.MediaTypeImageManifest, body)
	if err != nil {
		return err
	}
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: "latest"}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, "index.json"), index, 0o644)
}
