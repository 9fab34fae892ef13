package metadata

import (
	"encoding/binary"
	"strconv"
	"sync"
)

// idBlockSize is how many IDs one durable write reserves. A crash skips the rest.
const idBlockSize = 1024

// idBlock hands out snapshot IDs that are never used twice.
type idBlock struct {
	mu        sync.Mutex
	next, end uint64
	first     uint64 // of this run; 0 before there was any
}

// newID returns the next ID, reserving a block of them when the last is used up.
func (db *DB) newID() (string, error) {
	b := &db.ids
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == b.end {
		start, err := db.reserveIDs()
		if err != nil {
			return "", err
		}
		b.next, b.end = start, start+idBlockSize
		if b.first == 0 {
			b.first = start
		}
	}
	id := b.next
	b.next++
	return strconv.FormatUint(id, 10), nil
}

func (db *DB) reserveIDs() (start uint64, err error) {
	err = db.update(func(t *tx) error {
		meta := t.Bucket(bucketMeta)
		start = 1
		if v := meta.Get(keyNextID); len(v) == 8 {
			start = binary.BigEndian.Uint64(v)
		}
		return meta.Put(keyNextID, binary.BigEndian.AppendUint64(nil, start+idBlockSize))
	})
	return start, err
}
