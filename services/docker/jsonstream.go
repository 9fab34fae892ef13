package docker

import (
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
)

// jsonStream sends objects one after the other. The first one sends the headers:
// until then an error can be an answer of its own.
type jsonStream struct {
	c *call
	// kind is the media type; "" is application/json.
	kind string
	mu   sync.Mutex
	out  *flushed
}

// Media types of streams of objects: a line each, or each after a separator (RFC 7464).
const (
	jsonLines       = "application/jsonl"
	jsonNewlines    = "application/x-ndjson"
	jsonSequence    = "application/json-seq"
	recordSeparator = 0x1e
)

func newJSONStream(c *call) *jsonStream { return &jsonStream{c: c} }

// begin sends the headers now.
func (j *jsonStream) begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open()
}

func (j *jsonStream) open() {
	if j.out != nil {
		return
	}
	if j.kind == "" {
		j.kind = "application/json"
	}
	j.out = j.c.begin(j.kind)
}

// write sends an object. It may be called from several goroutines.
func (j *jsonStream) write(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open()
	if j.kind == jsonSequence {
		data = append([]byte{recordSeparator}, data...)
	}
	_, err = j.out.Write(append(data, '\r', '\n'))
	return err
}

// progress is a message as clients print it.
type progress struct {
	Stream   string               `json:"stream,omitempty"`
	Status   string               `json:"status,omitempty"`
	Progress *jsonstream.Progress `json:"progressDetail,omitempty"`
	ID       string               `json:"id,omitempty"`
	Aux      any                  `json:"aux,omitempty"`
	Error    *jsonstream.Error    `json:"errorDetail,omitempty"`
	Text     string               `json:"error,omitempty"`
}

// fail ends the stream with an error: as an answer of its own if nothing was sent
// yet, else within the stream.
func (j *jsonStream) fail(err error) error {
	j.mu.Lock()
	begun := j.out != nil
	j.mu.Unlock()
	if !begun {
		return err
	}
	code := status(err)
	if code == http.StatusInternalServerError {
		code = 0
	}
	return ignore(j.write(progress{Error: &jsonstream.Error{Code: code, Message: err.Error()}, Text: err.Error()}))
}

// eventType is the media type of a stream of events: the first that the client names
// of those that there are, else the version's.
func eventType(c *call) string {
	for part := range strings.SplitSeq(strings.Join(c.r.Header.Values("Accept"), ","), ",") {
		kind, _, err := mime.ParseMediaType(part)
		if err == nil && slices.Contains([]string{"application/json", jsonLines, jsonNewlines, jsonSequence}, kind) {
			return kind
		}
	}
	if c.version < plainEvents {
		return "application/json"
	}
	return jsonLines
}
