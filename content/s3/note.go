package s3

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/internal/safefile"
)

// note is ref.json: what the bytes that aren't sent don't tell.
type note struct {
	Ref      string        `json:"ref"`
	Total    int64         `json:"total,omitempty"`
	Expected digest.Digest `json:"expected,omitempty"`
	Started  time.Time     `json:"started"`
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

func (n *note) status(offset int64, updated time.Time) content.Status {
	return content.Status{Ref: n.Ref, Offset: offset, Total: n.Total, Expected: n.Expected, Started: n.Started, Updated: updated}
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
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	write := safefile.Replace
	if n.Upload != "" {
		write = safefile.Write
	}
	return write(filepath.Join(dir, "ref.json"), data, 0o600)
}

// loadNote reads a note; one that is missing or torn is fs.ErrNotExist.
func loadNote(dir string) (*note, error) {
	data, err := os.ReadFile(filepath.Join(dir, "ref.json"))
	if err != nil {
		return nil, err
	}
	n := &note{}
	if json.Unmarshal(data, n) != nil || n.Ref == "" || !n.Algorithm.Available() || refName(n.Ref) != filepath.Base(dir) {
		return nil, fmt.Errorf("%s: torn: %w", dir, fs.ErrNotExist)
	}
	return n, nil
}

// offset is how far an ingest on the disk has come, and when.
func (n *note) offset(dir string) (int64, time.Time, error) {
	fi, err := os.Stat(n.next(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return n.sent(), n.Started, nil
	}
	if err != nil {
		return 0, time.Time{}, err
	}
	return n.sent() + fi.Size(), fi.ModTime(), nil
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
