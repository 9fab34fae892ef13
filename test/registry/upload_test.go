package registry

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// resumedUpload sends data in chunks and kills the registry between them.
func resumedUpload(t *testing.T, d *daemon, data []byte) {
	t.Helper()
	code, header, text := d.ask("POST", "/v2/a/chunks/blobs/uploads/", nil)
	if code != http.StatusAccepted {
		t.Fatalf("%d %s", code, text)
	}
	at, where := 0, header.Get("Location")
	for at < len(data) {
		end := min(at+5_000_001, len(data))
		code, _, text = d.ask("PATCH", where, bytes.NewReader(data[at:end]), func(r *http.Request) {
			r.Header.Set("Content-Range", fmt.Sprintf("%d-%d", at, end-1))
		})
		if code != http.StatusAccepted {
			t.Fatalf("chunk at %d: %d %s", at, code, text)
		}
		d.kill()
		d.start()
		if code, header, text = d.ask("GET", where, nil); code != http.StatusNoContent {
			t.Fatalf("status: %d %s", code, text)
		}
		last, err := strconv.Atoi(strings.TrimPrefix(header.Get("Range"), "0-"))
		if err != nil || last != end-1 {
			t.Fatalf("it stands at %q, %d bytes were sent", header.Get("Range"), end)
		}
		at = end
	}
	dgst := digest.FromBytes(data).String()
	if code, _, text = d.ask("PUT", where+"?digest="+digest.FromString("x").String(), nil); code != http.StatusBadRequest {
		t.Fatalf("a wrong digest: %d %s", code, text)
	}
	if code, _, text = d.ask("PUT", where+"?digest="+dgst, nil); code != http.StatusCreated {
		t.Fatalf("%d %s", code, text)
	}
	if _, _, got := d.ask("GET", "/v2/a/chunks/blobs/"+dgst, nil); got != string(data) {
		t.Errorf("%d bytes came back, or others", len(got))
	}
	_, _, got := d.ask("GET", "/v2/a/chunks/blobs/"+dgst, nil, func(r *http.Request) { r.Header.Set("Range", "bytes=6000000-6000009") })
	if got != string(data[6_000_000:6_000_010]) {
		t.Errorf("a range is %q", got)
	}
}

// The same with files.
func TestResumedUploadOfFiles(t *testing.T) {
	resumedUpload(t, serve(t, ""), bytes.Repeat([]byte("orlop"), 2_500_000))
}
