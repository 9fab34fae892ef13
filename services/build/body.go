package build

import (
	"archive/tar"
	"bufio"
	"bytes"
	"io"
	"strings"

	"github.com/orlop/orlop/services/archive/packed"
)

// plainBody opens a context, which may be compressed: the solver would need programs for
// some of it. It may be nil.
func plainBody(body io.ReadCloser) (io.ReadCloser, error) {
	if body == nil {
		return nil, nil
	}
	plain, err := packed.Open(body)
	if err != nil {
		return nil, err
	}
	return &joined{told(plain), closers{plain, body}}, nil
}

// firstHeaders are types of headers that only say something of the next one (pax(1),
// GNU tar's long names).
const firstHeaders = "xgXLK"

// typeAt is where a header has its type.
const typeAt = 156

// told is an archive that the solver takes for one. It looks at the first 1024 bytes, which
// must have a whole header: one that begins with what belongs to the next, as Python's do,
// was read as a Dockerfile. Such an archive begins with its root folder, then.
func told(plain io.Reader) io.Reader {
	in := bufio.NewReader(plain)
	head, _ := in.Peek(blockSize)
	if len(head) < blockSize || !bytes.Contains(head, []byte("ustar")) || !strings.ContainsRune(firstHeaders, rune(head[typeAt])) {
		return in
	}
	var root bytes.Buffer
	if err := tar.NewWriter(&root).WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
		return in
	}
	return io.MultiReader(&root, in)
}

// blockSize is that of tar, in bytes.
const blockSize = 512
