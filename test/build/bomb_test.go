package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A context of some kilobytes that becomes very large, or very many files, ends before
// it is unpacked.
func TestBomb(t *testing.T) {
	t.Parallel()
	r := newRig(t, "[plugins.'io.orlop.builder.v1.buildkit']\ncontext_bytes = 50_000_000\ncontext_entries = 1000\n")
	for name, c := range map[string]struct {
		size, files, code int
		want              string
	}{
		"large": {100 << 20, 1, http.StatusBadRequest, "more than 50000000 bytes"},
		"many":  {0, 2000, http.StatusBadRequest, "more than 1000 entries"}, "neither": {1000, 10, http.StatusOK, "Successfully built"},
	} {
		var body bytes.Buffer
		z := gzip.NewWriter(&body)
		w := tar.NewWriter(z)
		text := "FROM scratch\nCOPY . /\n"
		w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(text))})
		io.WriteString(w, text)
		for i := range c.files {
			w.WriteHeader(&tar.Header{Name: strings.Repeat("x", i%100+1) + string(rune('a'+i%26)), Mode: 0o644, Size: int64(c.size)})
			w.Write(make([]byte, c.size))
		}
		w.Close()
		z.Close()
		resp, err := r.api().Post("http://docker/build?nocache=1", "application/x-tar", &body)
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.code || !bytes.Contains(out, []byte(c.want)) {
			t.Errorf("%s: %d %v %s", name, resp.StatusCode, err, out)
		}
	}
}
