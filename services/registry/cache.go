package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/registry"
	"github.com/orlop/orlop/services/remote"
)

// Upstream is a registry that repositories are a cache of.
type Upstream struct {
	// Prefix begins the names of these repositories, before a slash; empty is all.
	Prefix string
	// Host is the registry, such as docker.io.
	Host string
	// Client reaches it.
	Client *remote.Client
}

// CacheConfig is how the registry caches others.
type CacheConfig struct {
	Upstreams []Upstream
	// Fresh is for how long a tag is believed before it is asked for again; 0 is
	// [DefaultFresh].
	Fresh time.Duration
	// Bytes bounds what is kept, 0 doesn't: what was not read for longest goes first.
	Bytes int64
	// Temp is a folder for what is coming in; empty is the system's.
	Temp string
}

// Defaults and bounds of caches.
const (
	DefaultFresh = 10 * time.Minute
	maxChecked   = 100_000 // tags that are remembered as fresh
	maxFetches   = 16      // blobs at once
	fetchLimit   = time.Hour
	askLimit     = time.Minute
)

// cache brings what repositories lack from elsewhere. What many want at once is fetched
// once.
type cache struct {
	r   *Registry
	cfg CacheConfig
	ctx context.Context // ends with the registry

	slots chan struct{}
	mu    sync.Mutex // guards what is below
	// checked is when a tag was last compared with its upstream.
	checked map[string]time.Time
	asking  map[string]*question
	coming  map[digest.Digest]*spool
	read    map[digest.Digest]time.Time // when blobs were last read
}

func newCache(r *Registry, ctx context.Context) *cache {
	cfg := r.cfg.Cache
	if cfg.Fresh == 0 {
		cfg.Fresh = DefaultFresh
	}
	return &cache{r: r, cfg: cfg, ctx: ctx, slots: make(chan struct{}, maxFetches), checked: map[string]time.Time{},
		asking: map[string]*question{}, coming: map[digest.Digest]*spool{}, read: map[digest.Digest]time.Time{}}
}

// upstream is what a repository is a cache of; nil is nothing.
func (c *cache) upstream(repo string) *Upstream {
	for i, u := range c.cfg.Upstreams {
		if u.Prefix == "" || strings.HasPrefix(repo, u.Prefix+"/") {
			return &c.cfg.Upstreams[i]
		}
	}
	return nil
}

// reference is a repository's name at its upstream, and a tag or digest.
func (u *Upstream) reference(repo, object string) remote.Reference {
	if u.Prefix != "" {
		repo = strings.TrimPrefix(repo, u.Prefix+"/")
	}
	ref := remote.Reference{Host: u.Host, Repository: repo, Name: u.Host + "/" + repo}
	if strings.Contains(object, ":") {
		ref.Digest = digest.Digest(object)
	} else {
		ref.Tag = object
	}
	return ref
}

// question is one that is being asked for all who want to know.
type question struct {
	done chan struct{}
	err  error
}

// manifest makes sure that the catalog has what the upstream has. When that doesn't
// answer, what is there has to do.
func (c *cache) manifest(q *request, u *Upstream) error {
	key := q.repo + "@" + q.ref
	known, err := c.r.find(q)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	there := err == nil
	if there && (strings.Contains(q.ref, ":") || c.fresh(key)) {
		return nil
	}
	ask := c.ask(key, func(ctx context.Context) error {
		// Somebody else's question may have been answered since we looked.
		if _, err := c.r.find(q); err == nil && !there && (strings.Contains(q.ref, ":") || c.fresh(key)) {
			return nil
		}
		return c.renew(ctx, u, q.repo, q.ref, known.Digest)
	})
	select {
	case <-ask.done:
	case <-q.Context().Done():
		return q.Context().Err()
	}
	switch {
	case ask.err == nil:
		return nil
	case there && !errdefs.IsNotFound(ask.err):
		log.G(q.Context()).WithError(ask.err).Warnf("registry: %s of %s is served as it was", q.ref, q.repo)
		return nil
	}
	return ask.err
}

func (c *cache) fresh(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.checked[key]
	return ok && time.Since(at) < c.cfg.Fresh
}

// ask asks once for all who want to know at the same time. It goes on when they leave.
func (c *cache) ask(key string, fn func(context.Context) error) *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.asking[key]; a != nil {
		return a
	}
	a := &question{done: make(chan struct{})}
	c.asking[key] = a
	c.r.work.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, askLimit)
		defer cancel()
		a.err = fn(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.asking, key)
		if a.err == nil {
			if len(c.checked) >= maxChecked {
				clear(c.checked)
			}
			c.checked[key] = time.Now()
		}
		close(a.done)
	})
	return a
}

// renew fetches a manifest unless it is the one that is known.
func (c *cache) renew(ctx context.Context, u *Upstream, repo, object string, known digest.Digest) error {
	ref := u.reference(repo, object)
	if known != "" {
		now, err := u.Client.Head(ctx, ref)
		if err != nil || now == known {
			return err
		}
	}
	desc, body, err := u.Client.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	m, err := describe(desc.MediaType, body)
	if err != nil {
		return err
	}
	m.Digest, m.Size, m.Pushed = desc.Digest, desc.Size, time.Now().UTC()
	ctx, end, err := c.r.held(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := c.r.write(ctx, m.Digest, body); err != nil {
		return err
	}
	var tags []string
	if ref.Tag != "" {
		tags = []string{ref.Tag}
	}
	return c.r.Catalog.PutManifest(ctx, repo, m, registry.PutOptions{Tags: tags, Sparse: true})
}

// size finds out how large a blob is, from the manifests that refer to it.
func (c *cache) size(ctx context.Context, repo string, dgst digest.Digest) (int64, error) {
	missing := fmt.Errorf("blob %s of repository %s: no manifest that is here refers to it: %w", dgst, repo, errdefs.ErrNotFound)
	all, err := c.r.Catalog.Manifests(ctx, repo, registry.Page{})
	if err != nil {
		return 0, err
	}
	for _, m := range all {
		for _, d := range m.Blobs {
			if d == dgst {
				return c.sizeIn(ctx, m.Digest, dgst)
			}
		}
	}
	return 0, missing
}

func (c *cache) sizeIn(ctx context.Context, manifest, dgst digest.Digest) (int64, error) {
	b, err := c.r.open(ctx, manifest)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	data, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		return 0, err
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return 0, err
	}
	all := append(d.Layers, d.Blobs...)
	if d.Config != nil {
		all = append(all, *d.Config)
	}
	for _, l := range all {
		if l.Digest == dgst && l.Size >= 0 {
			return l.Size, nil
		}
	}
	return 0, errors.New("the manifest has changed")
}

// descriptor is what is asked for.
func descriptor(dgst digest.Digest, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: dgst, Size: size}
}
