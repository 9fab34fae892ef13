package tarstream

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// extension is what the headers before a member say of it.
type extension struct {
	longName, longLink string
	xattrs             []Xattr
	size, uid, gid     *int64
	mtime              *time.Time
	sparse             paxSparse
}

func (x *extension) reset() { *x = extension{xattrs: x.xattrs[:0]} }

// readExtension reads the payload of an extension header, which is current.
func (t *Reader) readExtension(b block) error {
	size, ok := number(b[124:136])
	kind := b.typeflag()
	if !ok || size < 0 || size > MaxHeader {
		return t.bad("extension header above 1 MiB", nil)
	}
	t.advance(blockSize)
	t.heap = t.heap[:0]
	for rest := size; rest > 0; {
		p, err := t.some(rest)
		if err != nil {
			return t.bad("extension header cut short", err)
		}
		t.heap = append(t.heap, p...)
		t.advance(len(p))
		rest -= int64(len(p))
	}
	if err := t.skip(padded(size) - size); err != nil {
		return t.bad("extension header cut short", err)
	}
	switch kind {
	case typeLongName:
		t.ext.longName = string(cstring(t.heap))
	case typeLongLink:
		t.ext.longLink = string(cstring(t.heap))
	case typePAX:
		return t.parsePAX(t.heap)
	}
	return nil // a global header
}

// parsePAX reads records of the form "length key=value\n".
func (t *Reader) parsePAX(p []byte) error {
	for len(p) > 0 {
		blank := bytes.IndexByte(p, ' ')
		if blank < 1 || blank > 7 {
			return t.bad("PAX record without a length", nil)
		}
		n, err := strconv.ParseUint(string(p[:blank]), 10, 32)
		if err != nil || int(n) > len(p) || int(n) < blank+3 || p[n-1] != '\n' {
			return t.bad("PAX record of a wrong length", nil)
		}
		record := p[blank+1 : n-1]
		p = p[n:]
		eq := bytes.IndexByte(record, '=')
		if eq < 1 || bytes.IndexByte(record[:eq], 0) >= 0 {
			return t.bad("PAX record without a key", nil)
		}
		if !t.ext.set(string(record[:eq]), string(record[eq+1:])) {
			return t.bad("PAX record "+strconv.Quote(string(record[:eq]))+" of a wrong value", nil)
		}
	}
	return nil
}

// set takes one PAX record. Unknown keys are ignored.
func (x *extension) set(key, value string) bool {
	const xattr = "SCHILY.xattr."
	switch {
	case key == "path":
		x.longName = value
		return !strings.Contains(value, "\x00")
	case key == "linkpath":
		x.longLink = value
		return !strings.Contains(value, "\x00")
	case key == "size":
		return setInt(&x.size, value)
	case key == "uid":
		return setInt(&x.uid, value)
	case key == "gid":
		return setInt(&x.gid, value)
	case key == "mtime":
		return setTime(&x.mtime, value)
	case strings.HasPrefix(key, xattr) && len(key) > len(xattr):
		x.xattrs = append(x.xattrs, Xattr{Name: key[len(xattr):], Value: value})
	case strings.HasPrefix(key, "GNU.sparse."):
		return x.sparse.set(key[len("GNU.sparse."):], value)
	}
	return true
}

// setInt reads a decimal number. An empty value withdraws the record.
func setInt(dst **int64, value string) bool {
	if value == "" {
		*dst = nil
		return true
	}
	n, err := strconv.ParseInt(value, 10, 64)
	*dst = &n
	return err == nil
}

// setTime reads seconds with an optional fraction, which may be negative.
func setTime(dst **time.Time, value string) bool {
	if value == "" {
		*dst = nil
		return true
	}
	whole, frac, _ := strings.Cut(value, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return false
	}
	var nsec int64
	for i := range 9 {
		digit := byte('0')
		if i < len(frac) {
			digit = frac[i]
		}
		if digit < '0' || digit > '9' {
			return false
		}
		nsec = nsec*10 + int64(digit-'0')
	}
	if strings.HasPrefix(whole, "-") {
		nsec = -nsec
	}
	at := time.Unix(sec, nsec)
	*dst = &at
	return true
}

// applyExtension lets the extension headers override the header's fields.
func (t *Reader) applyExtension(e *Entry, n *numbers) error {
	x := &t.ext
	if x.size != nil {
		n.size = *x.size
	}
	if x.uid != nil {
		n.uid = *x.uid
	}
	if x.gid != nil {
		n.gid = *x.gid
	}
	if x.mtime != nil {
		e.ModTime = *x.mtime
	}
	if x.sparse.name != "" {
		e.Name = x.sparse.name
	}
	if strings.Contains(e.Name, "\x00") {
		return t.bad("a name holds a NUL", nil)
	}
	e.Xattrs = append(e.Xattrs, x.xattrs...)
	return nil
}
