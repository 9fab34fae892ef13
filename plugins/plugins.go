// Package plugins assembles a daemon from independently written parts.
//
// A [Kind] names a role ("content store") and fixes the Go type every provider
// of that role returns. A provider registers with [Provide]; it first declares
// what it needs and how it is configured, and later is built:
//
//	plugins.Provide(r, kinds.Metadata, "bolt", func(s *plugins.Scope) plugins.Build[*metadata.DB] {
//		cfg := plugins.Config(s, metadata.Config{Sharing: "shared"})
//		blobs := plugins.One(s, kinds.Content)
//		return func(ctx context.Context) (*metadata.DB, error) {
//			return metadata.Open(ctx, *cfg, blobs())
//		}
//	})
//
// The two phases make dependencies explicit without strings or assertions: a
// value can only be reached through a [Ref], a Ref only comes from declaring a
// need, and a Ref that is declared and not used does not compile.
//
// # Lifecycle
//
// [Registry.Plan] runs every declaration, decodes the config and orders the
// graph, without side effects: it finds all mistakes of the operator at once.
// [Plan.Start] builds in dependency order, independent providers side by side.
// A provider that fails or returns [Skip] is reported and the rest goes on; if
// it is required, all that was built is closed again and Start fails.
// [System.Close] closes in reverse order, each part within a time limit.
// [System.Reload] hands a new config to the providers that declare [Live].
//
// # Which provider
//
// All linked providers are on unless disabled_plugins lists them or they turn
// themselves off ([Scope.Off]). Where one is needed and several are on, the
// config's table "defaults" chooses by the kind's name; else the kind's own
// preference does ([Prefer]), the first that started; else it is an ambiguity,
// and a mistake.
//
// # Concurrency
//
// A Registry is filled by one goroutine, then only read. Declarations run one
// after the other. A Build runs in a goroutine of its own, after all it needs
// has been built. System's methods are safe for concurrent use; System.mu
// guards the values and states, and is never held while a provider's code runs.
//
// # Crash
//
// The kernel keeps nothing on disk.
package plugins

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/orlop/orlop/plugins/config"
)

// Kind is a role in the daemon. Its name is visible to operators (config keys,
// introspection) and must never change; its type parameter is what a provider
// of the role returns.
type Kind[T any] struct{ k *kind }

// kind is what a role is without its type.
type kind struct {
	name   string
	doc    string
	prefer []string
}

// KindOption sets what a kind may have besides its name.
type KindOption func(*kind)

// Prefer names the providers to take, best first, where one is needed, several
// are on and the config does not choose. One that fails or skips itself gives
// way to the next.
func Prefer(names ...string) KindOption { return func(k *kind) { k.prefer = names } }

// Describe says in a phrase what the role is for.
func Describe(doc string) KindOption { return func(k *kind) { k.doc = doc } }

// NewKind declares a role by its visible name, such as
// "io.containerd.snapshotter.v1". Call it once per role, in package kinds.
func NewKind[T any](name string, opts ...KindOption) Kind[T] {
	k := &kind{name: name}
	for _, o := range opts {
		o(k)
	}
	return Kind[T]{k}
}

// Name is the visible name of the role.
func (k Kind[T]) Name() string { return k.k.name }

// role is implemented by every Kind, whatever its type.
func (k Kind[T]) role() *kind { return k.k }

// Role is a [Kind] of any type.
type Role interface {
	Name() string
	role() *kind
}

// Build makes the provider's value. It runs after every need has been built.
// What it returns is closed at the end if it has a method Close() error,
// Close(context.Context) error or Close().
type Build[T any] func(context.Context) (T, error)

// provider is a registered part.
type provider struct {
	kind    *kind
	name    string
	typ     reflect.Type
	proxy   bool
	declare func(*Scope) func(context.Context) (any, error)
}

func (p *provider) id() string { return p.kind.name + "." + p.name }

// Registry holds the providers a binary was linked with.
type Registry struct {
	providers []*provider
	proxies   map[string]func(name string, p config.Proxy) *provider

	liveKeys []string
	live     func(context.Context, config.Settings) error
}

// LiveSettings says which of the daemon's own keys, by their name in the file,
// can change while it runs, and how. It is called once at most.
func (r *Registry) LiveSettings(keys []string, apply func(ctx context.Context, next config.Settings) error) {
	if r.live != nil {
		panic("plugins: LiveSettings is called twice")
	}
	r.liveKeys, r.live = keys, apply
}

// Provide adds a provider of kind k. It panics if k already has one by that
// name: registration mistakes are the programmer's, not the operator's.
func Provide[T any](r *Registry, k Kind[T], name string, declare func(*Scope) Build[T]) {
	p := newProvider(k, name, declare)
	if lookup(r.providers, p.id()) != nil {
		panic(fmt.Sprintf("plugins: %s is provided twice", p.id()))
	}
	r.providers = append(r.providers, p)
}

// ProvideProxy says how entries of the config's proxy_plugins of one type
// ("snapshot") become providers of kind k. The kernel turns each entry into a
// provider of the entry's name, shows its platform, exports and capabilities,
// and refuses a socket that other users could have put there.
func ProvideProxy[T any](r *Registry, k Kind[T], typ string, declare func(s *Scope, p config.Proxy) Build[T]) {
	if r.proxies == nil {
		r.proxies = map[string]func(string, config.Proxy) *provider{}
	}
	if r.proxies[typ] != nil {
		panic(fmt.Sprintf("plugins: proxies of type %q are provided twice", typ))
	}
	r.proxies[typ] = func(name string, entry config.Proxy) *provider {
		p := newProvider(k, name, func(s *Scope) Build[T] {
			s.describeProxy(entry)
			build := declare(s, entry)
			return func(ctx context.Context) (T, error) {
				if err := checkSocket(entry.Address); err != nil {
					var zero T
					return zero, err
				}
				return build(ctx)
			}
		})
		p.proxy = true
		return p
	}
}

func newProvider[T any](k Kind[T], name string, declare func(*Scope) Build[T]) *provider {
	return &provider{
		kind: k.k, name: name, typ: reflect.TypeFor[T](),
		declare: func(s *Scope) func(context.Context) (any, error) {
			build := declare(s)
			if build == nil {
				return nil
			}
			return func(ctx context.Context) (any, error) { return build(ctx) }
		},
	}
}

func lookup(providers []*provider, id string) *provider {
	i := slices.IndexFunc(providers, func(p *provider) bool { return p.id() == id })
	if i < 0 {
		return nil
	}
	return providers[i]
}

// errSkip marks errors made by Skip.
var errSkip = errors.New("skip plugin")

// Skip returns an error by which a Build says that the plugin can't work here
// and that this is no failure, such as a snapshotter whose file system the
// kernel lacks. It is reported as "skip plugin: reason".
func Skip(reason string) error { return fmt.Errorf("%w: %s", errSkip, reason) }

// IsSkip reports whether err says that a plugin skipped itself.
func IsSkip(err error) bool { return errors.Is(err, errSkip) }
