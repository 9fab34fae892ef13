package ingest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/internal/safefile"
)

// Note is ref.json: what the bytes of an ingest don't tell. Stores that note more embed it.
type Note struct {
	Ref      string        `json:"ref"`
	Total    int64         `json:"total,omitempty"` // bytes; 0 where unknown
	Expected digest.Digest `json:"expected,omitempty"`
	Started  time.Time     `json:"started"`
}

// NewNote is of an ingest that begins now.
func NewNote(opts content.WriterOptions) Note {
	return Note{Ref: opts.Ref, Total: opts.Descriptor.Size, Expected: opts.Descriptor.Digest, Started: time.Now().UTC()}
}

// Whole reports whether the note tells of the ingest in the folder of that name.
func (n *Note) Whole(name string) bool { return n.Ref != "" && folder(n.Ref) == name }

// Status is the note's part of a status. Offset is in bytes.
func (n *Note) Status(offset int64, updated time.Time) content.Status {
	return content.Status{Ref: n.Ref, Offset: offset, Total: n.Total, Expected: n.Expected, Started: n.Started, Updated: updated}
}

// Expect takes the total that a writer expects, in bytes; 0 is unknown. Another than
// before is InvalidArgument.
func (n *Note) Expect(total int64) error {
	if total <= 0 {
		return nil
	}
	if n.Total > 0 && n.Total != total {
		return fmt.Errorf("resumed with total %d, begun with %d: %w", total, n.Total, errdefs.ErrInvalidArgument)
	}
	n.Total = total
	return nil
}

// Load reads the note of a folder into n. One that is missing or torn is fs.ErrNotExist.
func Load(dir string, n interface{ Whole(name string) bool }) error {
	data, err := os.ReadFile(filepath.Join(dir, "ref.json"))
	if err != nil {
		return err
	}
	if json.Unmarshal(data, n) != nil || !n.Whole(filepath.Base(dir)) {
		return fmt.Errorf("%s: torn: %w", dir, fs.ErrNotExist)
	}
	return nil
}

// Save replaces the note of a folder. Only a durable one is synced.
func Save(dir string, n any, durable bool) error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	write := safefile.Replace
	if durable {
		write = safefile.Write
	}
	return write(filepath.Join(dir, "ref.json"), data, 0o600)
}
