package tarstream

import (
	"bytes"
	"strconv"
	"strings"
)

// paxSparse collects the GNU.sparse records of formats 0.0, 0.1 and 1.0.
type paxSparse struct {
	seen         bool
	major, minor string
	name         string
	size         *int64
	pending      int64 // offset of format 0.0 waiting for its length
	hasPending   bool
	spans        []span // formats 0.0 and 0.1
}

// span is a run of data in a sparse file.
type span struct{ off, len int64 }

func (s *paxSparse) set(key, value string) bool {
	s.seen = true
	switch key {
	case "major":
		s.major = value
	case "minor":
		s.minor = value
	case "name":
		s.name = value
		return !strings.Contains(value, "\x00")
	case "size", "realsize":
		return setInt(&s.size, value)
	case "offset":
		n, err := strconv.ParseInt(value, 10, 64)
		s.pending, s.hasPending = n, true
		return err == nil
	case "numbytes":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || !s.hasPending || len(s.spans) >= MaxExtents {
			return false
		}
		s.hasPending = false
		s.spans = append(s.spans, span{s.pending, n})
	case "map":
		return s.setMap(value)
	}
	return true
}

// setMap reads format 0.1: "offset,length,offset,length,…".
func (s *paxSparse) setMap(value string) bool {
	if value == "" {
		return true
	}
	if strings.Count(value, ",") >= 2*MaxExtents {
		return false
	}
	fields := strings.Split(value, ",")
	if len(fields)%2 != 0 {
		return false
	}
	for i := 0; i < len(fields); i += 2 {
		off, err1 := strconv.ParseInt(fields[i], 10, 64)
		n, err2 := strconv.ParseInt(fields[i+1], 10, 64)
		if err1 != nil || err2 != nil {
			return false
		}
		s.spans = append(s.spans, span{off, n})
	}
	return true
}

// sparse fills the extents of a sparse entry, reading maps that are stored in
// front of the data. For others it does nothing.
func (t *Reader) sparse(e *Entry, oldFormat bool, old oldSparse) error {
	p := &t.ext.sparse
	var spans []span
	var err error
	var size int64
	switch {
	case oldFormat:
		spans, size, err = t.readOldSparse(old)
	case p.seen && p.size != nil && p.major == "1" && p.minor == "0":
		size = *p.size
		spans, err = t.readMap()
	case p.seen && p.size != nil && (p.major == "" || p.major == "0"):
		size, spans = *p.size, p.spans
	default:
		return nil
	}
	if err != nil {
		return err
	}
	e.Sparse = true
	e.Size = size
	return t.place(e, spans)
}

// place checks the spans (in order, apart, inside the file, no more and no less
// data than is stored) and gives them their place in the stream.
func (t *Reader) place(e *Entry, spans []span) error {
	at, stream := int64(0), t.pos
	for _, s := range spans {
		if s.off < at || s.len < 0 || s.off > e.Size-s.len {
			return t.bad("sparse map out of order or range", nil)
		}
		at = s.off + s.len
		if s.len > 0 {
			e.Data = append(e.Data, Extent{Logical: s.off, Stream: stream, Len: s.len})
		}
		stream += s.len
		if stream-t.pos > t.left {
			return t.bad("sparse map and data disagree", nil)
		}
	}
	if padded(stream-t.pos) != t.left {
		return t.bad("sparse map and data disagree", nil)
	}
	return nil
}

// readMap reads the map of format 1.0: the number of spans, then offset and
// length of each, a decimal a line, filled up to a whole block.
func (t *Reader) readMap() ([]span, error) {
	var line []byte
	var block []byte
	next := func() (int64, error) {
		line = line[:0]
		for {
			if len(block) == 0 {
				if t.left < blockSize {
					return 0, t.bad("sparse map cut short", nil)
				}
				b, err := t.need(blockSize)
				if err != nil {
					return 0, t.bad("sparse map cut short", err)
				}
				block = append(block, b...)
				t.advance(blockSize)
			}
			c := block[0]
			block = block[1:]
			if c == '\n' {
				n, err := strconv.ParseInt(string(line), 10, 64)
				if err != nil || n < 0 {
					return 0, t.bad("sparse map holds no number", nil)
				}
				return n, nil
			}
			if line = append(line, c); len(line) > 20 {
				return 0, t.bad("sparse map holds no number", nil)
			}
		}
	}
	count, err := next()
	if err != nil {
		return nil, err
	}
	if count > MaxExtents {
		return nil, t.bad("too many extents in a sparse file", nil)
	}
	var spans []span
	for range count {
		off, err := next()
		if err != nil {
			return nil, err
		}
		n, err := next()
		if err != nil {
			return nil, err
		}
		spans = append(spans, span{off, n})
	}
	return spans, nil
}

// oldSparse is the part of an old GNU sparse header that is about holes.
type oldSparse struct {
	fields   []byte // four pairs of numbers
	size     []byte
	extended bool
}

func parseOldSparse(b block) oldSparse {
	return oldSparse{
		fields:   bytes.Clone(b[386:482]),
		extended: b[482] != 0,
		size:     bytes.Clone(b[483:495]),
	}
}

// readOldSparse reads the map that begins in the header and goes on in blocks
// behind it, which are not counted in the entry's stored size.
func (t *Reader) readOldSparse(o oldSparse) ([]span, int64, error) {
	size, ok := number(o.size)
	if !ok || size < 0 {
		return nil, 0, t.bad("size of a sparse file", nil)
	}
	var spans []span
	more := o.extended
	fields := o.fields
	for {
		var ok bool
		if spans, ok = appendSpans(spans, fields); !ok {
			return nil, 0, t.bad("sparse map holds no number", nil)
		}
		if !more {
			return spans, size, nil
		}
		b, err := t.need(blockSize)
		if err != nil {
			return nil, 0, t.bad("sparse map cut short", err)
		}
		fields = bytes.Clone(b[:504])
		more = b[504] != 0
		t.advance(blockSize)
		t.left += blockSize // advance took them from the data
		if len(spans) > MaxExtents {
			return nil, 0, t.bad("too many extents in a sparse file", nil)
		}
	}
}

// appendSpans reads pairs of 12-byte numbers up to the first empty pair.
func appendSpans(spans []span, fields []byte) ([]span, bool) {
	for ; len(fields) >= 24; fields = fields[24:] {
		if fields[0] == 0 || fields[12] == 0 {
			break
		}
		off, ok1 := number(fields[:12])
		n, ok2 := number(fields[12:24])
		if !ok1 || !ok2 {
			return nil, false
		}
		spans = append(spans, span{off, n})
	}
	return spans, true
}
