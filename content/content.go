// Package content is the port of the content store: immutable blobs addressed
// by their digest, and ingests, which are blobs being written.
//
// An ingest is named by a ref. It survives its writer: a second Writer for the
// ref goes on at the offset where the first stopped. At most one Writer is open
// for a ref at a time; a second one fails with Unavailable. Commit checks size
// and digest, makes the bytes durable and only then lets the blob appear under
// its digest, so a blob that can be opened is whole, also after a power cut.
//
// Two things implement [Store]: a backend (content/local, content/proxy) keeps
// bytes and knows nothing of labels; package metadata puts names, labels,
// namespaces and leases on top. All methods are safe for concurrent use, a
// Writer's are for one goroutine.
package content

import (
	"context"
	_ "crypto/sha256" // the digests a blob may have
	_ "crypto/sha512"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/filter"
)

// Info is what is known of a blob.
type Info struct {
	Digest  digest.Digest
	Size    int64 // bytes
	Created time.Time
	Updated time.Time
	Labels  map[string]string
}

// Status is what is known of an ingest.
type Status struct {
	Ref      string
	Offset   int64 // bytes written so far
	Total    int64 // expected size in bytes; 0 where unknown
	Expected digest.Digest
	Started  time.Time
	Updated  time.Time
}

// ReaderAt reads a blob. Close it after use.
type ReaderAt interface {
	io.ReaderAt
	io.Closer
	// Size is the blob's size in bytes.
	Size() int64
}

// Writer writes one ingest. Close without Commit keeps the ingest for later.
type Writer interface {
	io.WriteCloser
	// Digest is the digest of what was written so far.
	Digest() digest.Digest
	// Commit makes the ingest a blob. With size > 0 or an expected digest, a
	// difference is FailedPrecondition and the ingest stays. A blob that is there
	// already is AlreadyExists and the ingest is gone.
	Commit(ctx context.Context, size int64, expected digest.Digest, labels map[string]string) error
	// Status returns where the ingest stands.
	Status() (Status, error)
	// Truncate drops everything from offset size on; only 0 is supported by all.
	Truncate(size int64) error
}

// WriterOptions name and describe an ingest.
type WriterOptions struct {
	// Ref names the ingest. Required.
	Ref string
	// Descriptor holds the expected digest and size, where known. With a digest
	// that is there already, Writer fails with AlreadyExists.
	Descriptor ocispec.Descriptor
}

// Provider opens blobs.
type Provider interface {
	// ReaderAt opens the blob of desc.Digest, or fails with NotFound.
	ReaderAt(ctx context.Context, desc ocispec.Descriptor) (ReaderAt, error)
}

// Ingester takes blobs.
type Ingester interface {
	// Writer opens or resumes an ingest.
	Writer(ctx context.Context, opts WriterOptions) (Writer, error)
}

// Manager looks after blobs.
type Manager interface {
	// Info returns what is known of a blob.
	Info(ctx context.Context, dgst digest.Digest) (Info, error)
	// Update replaces labels: all, or those named by fieldpaths.
	Update(ctx context.Context, info Info, fieldpaths ...string) (Info, error)
	// Walk calls fn for every blob that matches any filter.
	Walk(ctx context.Context, fn func(Info) error, filters ...string) error
	// Delete removes a blob.
	Delete(ctx context.Context, dgst digest.Digest) error
}

// IngestManager looks after ingests.
type IngestManager interface {
	// Status returns where one ingest stands.
	Status(ctx context.Context, ref string) (Status, error)
	// ListStatuses returns the ingests whose status matches any filter.
	ListStatuses(ctx context.Context, filters ...string) ([]Status, error)
	// Abort drops an ingest; NotFound if there is none.
	Abort(ctx context.Context, ref string) error
}

// Store is the whole content store.
type Store interface {
	Provider
	Ingester
	Manager
	IngestManager
}

// Mender is a [Store] that can show what a power cut left of ingests: bytes
// whose ref nobody can tell any more.
type Mender interface {
	// TornIngests names them; the names mean nothing but to DropTorn.
	TornIngests(ctx context.Context) ([]string, error)
	// DropTorn removes one. One that is in use by now stays, and is Unavailable.
	DropTorn(ctx context.Context, name string) error
}

// Locator is a [Store] whose blobs can be read by others, too.
type Locator interface {
	// Locate returns an address from which anybody may read a blob for a while;
	// empty is none. The blob need not be there.
	Locate(ctx context.Context, dgst digest.Digest) (string, error)
}

// Field lets filters look into an Info: "digest", "size", "labels.<key>".
func (i Info) Field(path []string) (string, bool) {
	if len(path) == 0 {
		return "", false
	}
	switch path[0] {
	case "digest":
		return i.Digest.String(), true
	case "labels":
		return filter.Labels(i.Labels, path[1:])
	}
	return "", false
}

// Field lets filters look into a Status: "ref".
func (s Status) Field(path []string) (string, bool) {
	if len(path) == 1 && path[0] == "ref" {
		return s.Ref, true
	}
	return "", false
}
