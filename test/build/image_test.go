package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxLayer bounds a layer that is read, in bytes.
const maxLayer = 256 << 20

// entry is a file of an image.
type entry struct {
	Kind     byte
	Mode     int64
	UID, GID int
	Size     int64
	Sum      [32]byte
	Link     string
	Attrs    map[string]string
	data     []byte
}

// image is what is in an archive, for one platform.
type image struct {
	platform string
	config   ocispec.Image
	settings map[string]any // the config's "config", with what only Docker knows
	layers   []string
	files    map[string]entry
}

// readImages reads an archive of an OCI layout: an image for each platform.
func readImages(file string) ([]*image, error) {
	blobs, err := readArchive(file)
	if err != nil {
		return nil, err
	}
	var found []*image
	err = walkIndex(blobs, blobs["index.json"], func(m ocispec.Manifest) error {
		img, err := newImage(blobs, m)
		if err == nil && img.config.OS != "unknown" {
			found = append(found, img)
		}
		return err
	})
	return found, err
}

func readArchive(file string) (map[string][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	blobs := map[string][]byte{}
	t := tar.NewReader(f)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return blobs, nil
		}
		if err != nil {
			return nil, err
		}
		if blobs[h.Name], err = io.ReadAll(io.LimitReader(t, maxLayer)); err != nil {
			return nil, err
		}
	}
}

// walkIndex calls fn for the manifests of images below an index.
func walkIndex(blobs map[string][]byte, text []byte, fn func(ocispec.Manifest) error) error {
	var index ocispec.Index
	if err := json.Unmarshal(text, &index); err != nil {
		return err
	}
	for _, d := range index.Manifests {
		body := blobs["blobs/sha256/"+d.Digest.Encoded()]
		if strings.Contains(d.MediaType, "index") || strings.Contains(d.MediaType, "list") {
			if err := walkIndex(blobs, body, fn); err != nil {
				return err
			}
			continue
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(body, &m); err != nil {
			return fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

func newImage(blobs map[string][]byte, m ocispec.Manifest) (*image, error) {
	img := &image{files: map[string]entry{}}
	raw := blobs["blobs/sha256/"+m.Config.Digest.Encoded()]
	all := struct{ Config map[string]any }{}
	if err := errors.Join(json.Unmarshal(raw, &img.config), json.Unmarshal(raw, &all)); err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	img.settings = all.Config
	img.platform = img.config.OS + "/" + img.config.Architecture
	for _, l := range m.Layers {
		img.layers = append(img.layers, l.Digest.String())
		if !strings.Contains(l.MediaType, "tar") {
			continue
		}
		z, err := gzip.NewReader(bytes.NewReader(blobs["blobs/sha256/"+l.Digest.Encoded()]))
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		if err := img.apply(tar.NewReader(z)); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// apply puts a layer on what is there.
func (img *image) apply(t *tar.Reader) error {
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Join("/", h.Name)
		if base := path.Base(name); strings.HasPrefix(base, ".wh.") {
			img.remove(path.Join(path.Dir(name), strings.TrimPrefix(base, ".wh.")))
			continue
		}
		if h.Typeflag == tar.TypeLink {
			img.files[name] = img.files[path.Join("/", h.Linkname)]
			continue
		}
		data, err := io.ReadAll(io.LimitReader(t, maxLayer))
		if err != nil {
			return err
		}
		e := entry{Kind: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, Size: h.Size, Sum: sha256.Sum256(data), Link: h.Linkname, Attrs: map[string]string{}}
		if len(data) < 1<<16 {
			e.data = data
		}
		for k, v := range h.PAXRecords {
			if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				e.Attrs[name] = v
			}
		}
		img.files[name] = e
	}
}

func (img *image) remove(name string) {
	for k := range img.files {
		if k == name || strings.HasPrefix(k, name+"/") {
			delete(img.files, k)
		}
	}
}

// check looks for a fact: "file PATH TEXT", "size PATH BYTES", "mode PATH OCTAL
// UID:GID", "link PATH TARGET", "xattr PATH NAME HEX", "none PATH", or "config KEY
// JSON".
func (img *image) check(fact string) error {
	f := strings.SplitN(fact, " ", 3)
	if len(f) < 2 {
		return fmt.Errorf("no fact: %q", fact)
	}
	rest := ""
	if len(f) == 3 {
		rest = f[2]
	}
	e, there := img.files[f[1]]
	have := "nothing"
	switch f[0] {
	case "config":
		return img.checkConfig(f[1], rest)
	case "none":
		if there {
			return fmt.Errorf("%s is there: %q", f[1], e.data)
		}
		return nil
	case "file":
		have = strings.TrimSpace(string(e.data))
	case "size":
		have = fmt.Sprint(e.Size)
	case "mode":
		have = fmt.Sprintf("%04o %d:%d", e.Mode, e.UID, e.GID)
	case "link":
		have = e.Link
	case "xattr":
		name, _, _ := strings.Cut(rest, " ")
		have = fmt.Sprintf("%s %x", name, e.Attrs[name])
	default:
		return fmt.Errorf("no such kind of fact: %q", fact)
	}
	if !there || have != rest {
		return fmt.Errorf("%s %s is %q (there: %v), want %q", f[0], f[1], have, there, rest)
	}
	return nil
}

func (img *image) checkConfig(key, want string) error {
	have, err := json.Marshal(img.settings[key])
	if err == nil && string(have) != want {
		err = fmt.Errorf("config %s is %s, want %s", key, have, want)
	}
	return err
}
