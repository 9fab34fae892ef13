package registry

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
)

// Kinds of events.
const (
	EventPush   = "push"
	EventPull   = "pull"
	EventDelete = "delete"
)

// Event tells that a manifest was pushed, pulled or deleted, or a tag deleted.
type Event struct {
	Kind       string        `json:"action"`
	Time       time.Time     `json:"time"`
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	MediaType  string        `json:"mediaType,omitempty"`
	Size       int64         `json:"size,omitempty"` // bytes, of the manifest
	Who        string        `json:"who,omitempty"`
	From       string        `json:"from,omitempty"` // the client's address
}

// tell passes an event on. Who listens must not block.
func (r *Registry) tell(q *request, e Event) {
	if len(r.cfg.Listeners) == 0 {
		return
	}
	e.Time, e.Repository, e.Who, e.From = time.Now().UTC(), q.repo, q.who.Name, q.RemoteAddr
	for _, listen := range r.cfg.Listeners {
		listen(e)
	}
}

// Record is what is known of a request after it was answered, for logs and figures.
type Record struct {
	// Route is what was asked for: base, catalog, manifests, blobs, uploads, upload,
	// tags, referrers or orlop; empty is none of them.
	Route      string
	Repository string
	Who        string
}

type recordKey struct{}

// WithRecord gives a context whose request fills in a record.
func WithRecord(ctx context.Context, r *Record) context.Context {
	return context.WithValue(ctx, recordKey{}, r)
}

// record is that of a request; one that nobody reads if none was asked for.
func record(ctx context.Context) *Record {
	if r, ok := ctx.Value(recordKey{}).(*Record); ok {
		return r
	}
	return &Record{}
}
