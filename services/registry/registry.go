// Package registry serves the OCI distribution API, version 1.1, over a content store
// and a catalog of what each repository has.
//
// # Who keeps what
//
// Bytes are in the content store, once, whoever pushed them: a blob that any
// repository or any other door of the daemon has is mounted or linked without being
// sent. What a repository has is in the catalog. An upload is an ingest of the
// content store, so it survives a restart and goes on where it stopped.
//
// # Safety
//
// A blob is named after its bytes are durable and their digest was checked; a
// manifest is recorded after all that it refers to is there, in one transaction. So
// a process that is killed at any moment leaves nothing that can be pulled and isn't
// whole. Names, digests, sizes, pages and numbers of uploads are bounded. What is
// abandoned goes by itself: uploads after a day, blobs that hang on no manifest
// after [Config].Grace.
//
// # Errors
//
// Answers carry the codes of the spec's section "Error Codes" and say what to do.
package registry

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/core/registry"
	"github.com/orlop/orlop/internal/voucher"
)

// Blobs is the part of a content store that a registry needs.
type Blobs interface {
	content.Provider
	content.Ingester
	Info(ctx context.Context, dgst digest.Digest) (content.Info, error)
	Status(ctx context.Context, ref string) (content.Status, error)
	Abort(ctx context.Context, ref string) error
}

// Parts are what a registry works with.
type Parts struct {
	Blobs   Blobs
	Catalog registry.Catalog
	// Leases hold what is being put together; nil where nothing is collected.
	Leases lease.Manager
	// Voucher knows requests of the daemon itself; nil is none.
	Voucher *voucher.Voucher
	// Namespace is where the blobs are.
	Namespace string
}

// Config is how a registry behaves.
type Config struct {
	// Grace is how long blobs stay that no manifest refers to; 0 is [DefaultGrace].
	Grace time.Duration
	// MaxManifest bounds manifests, in bytes; 0 is [DefaultManifest].
	MaxManifest int64
	// MaxBlob bounds blobs, in bytes; 0 is no bound.
	MaxBlob int64
	// Shared says that whoever may push may also link, by its digest, a blob that they
	// may pull elsewhere, and administrators and the daemon itself any blob that it has:
	// then a push of what is there already moves no bytes.
	Shared bool
	// Sparse takes manifests though parts of them are missing, such as an index of
	// which one platform was pushed.
	Sparse bool
	// Redirect sends clients to where the bytes of blobs are, if the store has an
	// address for others.
	Redirect bool
	// ReadOnly refuses all changes.
	ReadOnly bool
	// Immutable are tags that are never moved or deleted.
	Immutable []TagRule
	// Quotas bound repositories.
	Quotas []Quota
	// Retention says what is deleted when it is old.
	Retention []Retention
	// Cache makes repositories caches of other registries'.
	Cache CacheConfig
	// Neighbour serves images of the daemon's own store.
	Neighbour Neighbour
	// Bounds are what one client may have under way.
	Bounds Bounds
	// Listeners are told what happens. They must not block.
	Listeners []func(Event)
}

// Defaults.
const (
	DefaultGrace    = 24 * time.Hour
	DefaultManifest = 4 << 20 // what the spec asks for at least (section "Pushing Manifests")
)

// Registry is the registry. It is safe for concurrent use.
type Registry struct {
	Parts
	cfg  Config
	auth Authorizer

	uploads keyed
	clients clients
	quotas  []*quota
	cache   *cache

	stop context.CancelFunc
	work sync.WaitGroup
}

// New makes a registry; auth may be nil, then everybody may do everything.
func New(cfg Config, parts Parts, auth Authorizer) (*Registry, error) {
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.MaxManifest == 0 {
		cfg.MaxManifest = DefaultManifest
	}
	if cfg.Grace < 0 || cfg.MaxManifest < 0 || cfg.MaxBlob < 0 {
		return nil, fmt.Errorf("a registry's grace and bounds can't be negative: %+v", cfg)
	}
	if auth == nil {
		auth = everybody{}
	}
	r := &Registry{Parts: parts, cfg: cfg, auth: auth, quotas: newQuotas(cfg.Quotas)}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.cache = newCache(r, r.in(ctx))
	r.work.Go(func() { r.tidy(r.in(ctx)) })
	return r, nil
}

// Close ends the work in the background.
func (r *Registry) Close() error {
	r.stop()
	r.work.Wait()
	return nil
}

// in puts the registry's namespace into a context.
func (r *Registry) in(ctx context.Context) context.Context {
	return namespaces.With(ctx, r.Namespace)
}

// held gives a context whose lease keeps what is being put together.
func (r *Registry) held(ctx context.Context) (context.Context, func(), error) {
	ctx = r.in(ctx)
	if r.Leases == nil {
		return ctx, func() {}, nil
	}
	ctx, end, err := lease.Hold(ctx, r.Leases, "registry", time.Hour)
	if err != nil {
		return nil, nil, err
	}
	return ctx, func() { end(false) }, nil
}

// Handler serves everything below /v2/.
func (r *Registry) Handler() http.Handler { return http.HandlerFunc(r.serve) }

// open opens a blob.
func (r *Registry) open(ctx context.Context, dgst digest.Digest) (content.ReaderAt, error) {
	return r.Blobs.ReaderAt(r.in(ctx), ocispec.Descriptor{Digest: dgst})
}

// keyed is a set of locks by name; one is there while it is used.
type keyed struct {
	mu    sync.Mutex
	taken map[string]bool
}

// try takes a lock if nobody has it.
func (k *keyed) try(key string) (release func(), ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.taken[key] {
		return nil, false
	}
	if k.taken == nil {
		k.taken = map[string]bool{}
	}
	k.taken[key] = true
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.taken, key)
	}, true
}
