package disk

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sync"

	"github.com/orlop/orlop/internal/projquota"
	"github.com/orlop/orlop/snapshotters"
)

// bounds gives out numbers of projects, of which those of folders that are there are
// looked up when the first is wanted: most stores bound nothing.
type bounds struct {
	mu      sync.Mutex
	numbers *projquota.Numbers
}

// ranges is how many stores of a file system have numbers of their own, and rangeBits how
// many numbers each has.
const (
	ranges    = 256
	rangeBits = 22
)

// next is a number for a new folder of the store.
func (b *bounds) next(s *Store) (uint32, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.numbers != nil {
		return b.numbers.Next(), nil
	}
	h := fnv.New32a()
	h.Write([]byte(s.root))
	n := &projquota.Numbers{First: projquota.FirstSnapshot + h.Sum32()%ranges<<rangeBits}
	for _, folder := range []string{"snapshots", "trash"} {
		entries, err := os.ReadDir(filepath.Join(s.root, folder))
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			n.Taken(filepath.Join(s.root, folder, e.Name()))
		}
	}
	b.numbers = n
	return n.Next(), nil
}

// Bound bounds what an empty folder of a snapshot will take, in bytes; 0 is no bound.
func (s *Store) Bound(dir string, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	n, err := s.bounds.next(s)
	if err != nil {
		return err
	}
	if err := projquota.Limit(dir, n, bytes); errors.Is(err, projquota.ErrUnsupported) {
		return snapshotters.Unbounded(fmt.Sprintf("%s has %v", s.root, err))
	} else if err != nil {
		return err
	}
	return nil
}
