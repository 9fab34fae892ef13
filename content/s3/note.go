package s3

import (
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/ingest"
)

// note is ref.json: what the bytes that aren't sent don't tell.
type note struct {
	ingest.Note
	// Object and Upload name the upload of parts; empty until the first is full.
	Object string `json:"object,omitempty"`
	Upload string `json:"upload,omitempty"`
	// Parts are those that were sent.
	Parts []part `json:"parts,omitempty"`
	// Hash is the state of the hash after them, of Algorithm.
	Algorithm digest.Algorithm `json:"algorithm"`
	Hash      []byte           `json:"hash,omitempty"`
}

// part is one that the server has.
type part struct {
	ETag string `json:"etag"`
	Size int64  `json:"size"`
}

// sent is how many bytes the server has.
func (n *note) sent() (sum int64) {
	for _, p := range n.Parts {
		sum += p.Size
	}
	return sum
}

// next is the file of the part that is being filled.
func (n *note) next(dir string) string {
	return filepath.Join(dir, partPrefix+strconv.Itoa(len(n.Parts)+1))
}

const partPrefix = "part-"

// digester goes on where the sent parts ended.
func (n *note) digester() (digest.Digester, error) {
	d := n.Algorithm.Digester()
	if len(n.Hash) == 0 {
		return d, nil
	}
	h, ok := d.Hash().(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, fmt.Errorf("the state of %s can't be restored", n.Algorithm)
	}
	return d, h.UnmarshalBinary(n.Hash)
}

// save replaces the note: durably, once the server has something that it tells of.
func (n *note) save(dir string) error {
	return ingest.Save(dir, n, n.Upload != "")
}

// loadNote reads a note; one that is missing or torn is fs.ErrNotExist.
func loadNote(dir string) (*note, error) {
	n := &note{}
	return n, ingest.Load(dir, n)
}

// Whole reports whether the note tells of the ingest in the folder of that name.
func (n *note) Whole(name string) bool { return n.Algorithm.Available() && n.Note.Whole(name) }

// stat returns how far the ingest in a folder has come, and when.
func stat(dir string) (content.Status, error) {
	n, err := loadNote(dir)
	if err != nil {
		return content.Status{}, err
	}
	fi, err := os.Stat(n.next(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return n.Status(n.sent(), n.Started), nil
	}
	if err != nil {
		return content.Status{}, err
	}
	return n.Status(n.sent()+fi.Size(), fi.ModTime()), nil
}

// dropOld removes files of parts that were sent before a crash.
func (n *note) dropOld(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range files {
		if strings.HasPrefix(f.Name(), partPrefix) && f.Name() != filepath.Base(n.next(dir)) {
			errs = append(errs, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	return errors.Join(errs...)
}
