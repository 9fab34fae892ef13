package builtin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/internal/voucher"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	metrics "github.com/orlop/orlop/services/grpc/observe"
	"github.com/orlop/orlop/services/registry"
	"github.com/orlop/orlop/services/registry/access"
	"github.com/orlop/orlop/services/registry/hook"
	"github.com/orlop/orlop/services/registry/observe"
)

// registryConfig is how the OCI registry is served.
type registryConfig struct {
	// Listen is host:port; empty is no registry.
	Listen string `toml:"listen"`
	// Cert is the file of the server's certificate (PEM); empty is plain HTTP.
	Cert string `toml:"cert"`
	// Key is the file of the certificate's key.
	Key string `toml:"key"`
	// Insecure allows plain HTTP beyond this machine.
	Insecure bool `toml:"insecure"`
	// ReadOnly refuses all changes.
	ReadOnly bool `toml:"read_only"`
	// Shared lets whoever may push link a blob by its digest that they may pull from
	// another repository; administrators, and pushes of this daemon, may link any blob
	// that it has. Then a push from this machine moves no bytes.
	Shared bool `toml:"shared"`
	// Redirect sends clients to the object storage for blobs, by addresses that are
	// good for 15 minutes, if the blobs are there.
	Redirect bool `toml:"redirect"`
	// Sparse takes manifests though parts of them are missing, such as an index of
	// which one platform was pushed.
	Sparse bool `toml:"sparse"`
	// Grace is how long blobs stay that no manifest refers to.
	Grace string `toml:"grace"`
	// MaxManifestSize bounds manifests, in bytes.
	MaxManifestSize int64 `toml:"max_manifest_size"`
	// MaxBlobSize bounds blobs, in bytes; 0 is no bound.
	MaxBlobSize int64 `toml:"max_blob_size"`
	// Auth says who somebody is. Without any of it, everybody may do everything.
	Auth registryAuth `toml:"auth"`
	// Rights say who may do what. Without any, everybody with a name may do all.
	Rights []access.Right `toml:"rights"`
	// Immutable are tags that are never moved or deleted.
	Immutable []registryTags `toml:"immutable"`
	// Quotas bound what repositories have together.
	Quotas []registryQuota `toml:"quotas"`
	// Retention says what is deleted when it is old.
	Retention []registryRetention `toml:"retention"`
	// Webhooks are told what happens.
	Webhooks []hook.Config `toml:"webhooks"`
	// Replication pushes what changes here to other registries.
	Replication []registryReplication `toml:"replication"`
	// Upstreams are registries that repositories are caches of.
	Upstreams []registryUpstream `toml:"upstreams"`
	// CacheFresh is for how long a cached tag is believed, such as 10m.
	CacheFresh string `toml:"cache_fresh"`
	// CacheBytes bounds what is cached; 0 is no bound.
	CacheBytes int64 `toml:"cache_bytes"`
	// Bounds are what clients may take of the registry.
	Bounds registryBounds `toml:"bounds"`
	// Mirror serves what the image store has from other registries, in the namespaces
	// that mirror_namespaces lists, to clients that ask for it as they ask mirrors.
	Mirror bool `toml:"mirror"`
	// MirrorNamespaces are those of the image store that mirror is about.
	MirrorNamespaces []string `toml:"mirror_namespaces"`
	// UI serves pages about what there is below /ui/, to read.
	UI bool `toml:"ui"`
	// AccessLog makes each request a line of the daemon's log.
	AccessLog bool `toml:"access_log"`
}

func (c *registryConfig) socket() registry.Socket {
	return registry.Socket{Listen: c.Listen, Cert: c.Cert, Key: c.Key, ClientCA: c.Auth.ClientCA, Insecure: c.Insecure, Bounds: c.Bounds.bounds()}
}

func (c *registryConfig) behaviour() (registry.Config, error) {
	grace, err := time.ParseDuration(c.Grace)
	if err != nil || grace <= 0 {
		return registry.Config{}, fmt.Errorf("grace: %q is no time such as 24h", c.Grace)
	}
	out := registry.Config{Grace: grace, MaxManifest: c.MaxManifestSize, MaxBlob: c.MaxBlobSize, Shared: c.Shared, Sparse: c.Sparse, ReadOnly: c.ReadOnly, Redirect: c.Redirect, Bounds: c.Bounds.bounds()}
	if _, err := time.ParseDuration(c.Bounds.Stall); err != nil {
		return out, fmt.Errorf("bounds.stall: %q is no time such as 1m", c.Bounds.Stall)
	}
	return out, errors.Join(out.Bounds.Validate(), c.policy(&out), c.cache(&out.Cache))
}

// Validate checks all values.
func (c *registryConfig) Validate() error {
	if _, err := c.behaviour(); err != nil {
		return err
	}
	if _, err := c.replications(); err != nil {
		return err
	}
	if _, err := c.Auth.config(c.Rights, ""); err != nil {
		return err
	}
	if c.Listen == "" {
		return nil
	}
	return c.socket().Validate()
}

func doorRegistry(r *plugins.Registry) {
	plugins.Provide(r, kinds.Door, "registry", func(s *plugins.Scope) plugins.Build[kinds.Server] {
		cfg := plugins.Config(s, registryConfig{Grace: registry.DefaultGrace.String(), MaxManifestSize: registry.DefaultManifest, Shared: true, CacheFresh: registry.DefaultFresh.String(),
			Bounds:           defaultBounds(),
			MirrorNamespaces: []string{namespaces.Default, "k8s.io", "moby"},
			Auth:             registryAuth{Challenge: challengeToken, TokenLife: access.DefaultTokenLife.String()}})
		db, root := plugins.One(s, kinds.Metadata), s.Root()
		if cfg.Listen == "" {
			s.Off("listen is not set")
		}
		figures, pusher := plugins.Optional(s, kinds.Metrics), plugins.Optional(s, kinds.Pusher)
		return func(context.Context) (kinds.Server, error) {
			d := &registryDoor{cfg: cfg, db: db(), root: root, watch: observe.New(db().Registry(), cfg.AccessLog)}
			if p, ok := pusher(); ok {
				d.voucher = p.Voucher()
			}
			if m, ok := figures(); ok {
				d.figures = m
			}
			if err := d.register(d.watch); err != nil {
				return nil, err
			}
			return d.serve()
		}
	})
}

// registryDoor puts the parts of a registry together.
type registryDoor struct {
	cfg     *registryConfig
	db      *metadata.DB
	root    string
	watch   *observe.Observer
	figures *metrics.Metrics // nil where there are none
	// voucher is the pusher's; nil where there is none.
	voucher *voucher.Voucher
}

// register shows figures, where there are any.
func (d *registryDoor) register(c prometheus.Collector) error {
	if d.figures == nil {
		return nil
	}
	return d.figures.Register(c)
}

func (d *registryDoor) serve() (kinds.Server, error) {
	how, err := d.cfg.behaviour()
	if err != nil {
		return nil, err
	}
	if len(how.Cache.Upstreams) > 0 {
		how.Cache.Temp = filepath.Join(d.root, "incoming")
		if err := os.MkdirAll(how.Cache.Temp, 0o700); err != nil {
			return nil, err
		}
	}
	if d.cfg.Mirror {
		how.Neighbour = registry.Neighbour{Images: d.db.Images(), Namespaces: d.cfg.MirrorNamespaces}
	}
	guard, err := d.cfg.guard(d.root)
	if err != nil {
		return nil, err
	}
	hooks, err := d.cfg.hooks(&how)
	if err != nil {
		return nil, err
	}
	rep, err := d.replicator()
	if err != nil {
		return nil, errors.Join(err, hooks.Close())
	}
	how.Listeners = append(how.Listeners, rep.Listen)
	if err := d.register(observe.Replication{Replicator: rep}); err != nil {
		return nil, errors.Join(err, rep.Close(), hooks.Close())
	}
	hooks = append(hooks, rep)
	parts := registry.Parts{Blobs: d.db.Content(), Catalog: d.db.Registry(), Leases: d.db.Leases(), Voucher: d.voucher, Namespace: metadata.RegistryNamespace}
	reg, err := registry.New(how, parts, guard.authorizer())
	if err != nil {
		return nil, errors.Join(err, hooks.Close())
	}
	srv, err := registry.Serve(d.cfg.socket(), d.watch.Wrap(guard.mux(told(rep, guard.authorizer(), d.cfg.paged(reg)))), reg, hooks)
	if err != nil {
		return nil, errors.Join(err, reg.Close(), hooks.Close())
	}
	return srv, nil
}
