package local

import (
	"encoding"
	"os"

	"github.com/opencontainers/go-digest"
)

// maxParked bounds what is remembered of ingests that are closed, some 200 bytes each.
const maxParked = 1024

// parked is the hash of an ingest's bytes up to where its writer was closed, so that
// the next needn't read them again: a push by a registry's API is several requests. It
// is believed while the file is as that writer left it, and is gone with the process:
// what a crash left is read.
type parked struct {
	algorithm digest.Algorithm
	state     []byte
	offset    int64
	file      os.FileInfo
}

// park remembers the hash of an ingest that is being closed.
func (s *Store) park(w *writer) {
	h, ok := w.hash.Hash().(encoding.BinaryMarshaler)
	if !ok || w.offset == 0 {
		return
	}
	state, err := h.MarshalBinary()
	if err != nil {
		return
	}
	fi, err := w.f.Stat()
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parked == nil {
		s.parked = map[string]parked{}
	}
	for old := range s.parked {
		if len(s.parked) < maxParked {
			break
		}
		delete(s.parked, old)
	}
	s.parked[w.Ref] = parked{w.hash.Digest().Algorithm(), state, w.offset, fi}
}

// unpark restores a hash, and tells up to where it is; 0 where nothing is known.
func (s *Store) unpark(w *writer) int64 {
	s.mu.Lock()
	p, ok := s.parked[w.Ref]
	delete(s.parked, w.Ref)
	s.mu.Unlock()
	if !ok || w.hash.Digest().Algorithm() != p.algorithm {
		return 0
	}
	fi, err := w.f.Stat()
	if err != nil || !os.SameFile(fi, p.file) || fi.Size() != p.offset || !fi.ModTime().Equal(p.file.ModTime()) {
		return 0
	}
	h, ok := w.hash.Hash().(encoding.BinaryUnmarshaler)
	if !ok || h.UnmarshalBinary(p.state) != nil {
		w.hash.Hash().Reset()
		return 0
	}
	return p.offset
}
