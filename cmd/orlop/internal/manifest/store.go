// Package manifest keeps lists of manifests that are being put together, as docker manifest
// does, in the same files: a list that the one has begun the other goes on with.
//
// A list is a folder below <config>/manifests, an image for one platform a file in it.
// Nothing is locked; a crash leaves files whole.
package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/internal/safefile"
)

// maxFile bounds a file, in bytes.
const maxFile = 16 << 20

// ErrNone says that there is no such list, or that an image isn't in it.
var ErrNone = errors.New("no such manifest")

// Entry is an image of a list.
type Entry struct {
	Ref        string
	Descriptor ocispec.Descriptor
	Raw        []byte
	// SchemaV2Manifest or OCIManifest is Raw once more, by its type.
	SchemaV2Manifest json.RawMessage `json:",omitempty"`
	OCIManifest      json.RawMessage `json:",omitempty"`
}

// Store is the folder of lists.
type Store string

// fileName is a reference's, as docker manifest makes it.
func fileName(ref reference.Reference) string {
	return strings.NewReplacer(":", "-", "/", "_").Replace(ref.String())
}

func (s Store) list(list reference.Named) string { return filepath.Join(string(s), fileName(list)) }

// Put keeps an image of a list.
func (s Store) Put(list reference.Named, image reference.Named, e Entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	dir := s.list(list)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return safefile.Write(filepath.Join(dir, fileName(image)), data, 0o644)
}

// Get finds an image of a list.
func (s Store) Get(list, image reference.Named) (Entry, error) {
	return read(filepath.Join(s.list(list), fileName(image)), image.String())
}

func read(path, name string) (Entry, error) {
	var e Entry
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("%w: %s", ErrNone, name)
	}
	if err != nil {
		return e, err
	}
	if st.Size() > maxFile {
		return e, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		return e, fmt.Errorf("%s: %w", path, err)
	}
	return e, nil
}

// All are the images of a list, by their names.
func (s Store) All(list reference.Named) ([]Entry, error) {
	files, err := os.ReadDir(s.list(list))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNone, list)
	}
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, f := range files {
		e, err := read(filepath.Join(s.list(list), f.Name()), f.Name())
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// Remove forgets a list.
func (s Store) Remove(list reference.Named) error {
	if _, err := s.All(list); err != nil {
		return err
	}
	return os.RemoveAll(s.list(list))
}
