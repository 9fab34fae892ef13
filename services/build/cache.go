package build

import (
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/cache/remotecache/azblob"
	"github.com/moby/buildkit/cache/remotecache/gha"
	"github.com/moby/buildkit/cache/remotecache/inline"
	localcache "github.com/moby/buildkit/cache/remotecache/local"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/cache/remotecache/s3"
	"github.com/moby/buildkit/session"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// cacheExporters are the places that --cache-to knows, by type.
func cacheExporters(sessions *session.Manager, hosts docker.RegistryHosts) map[string]remotecache.ResolveCacheExporterFunc {
	return map[string]remotecache.ResolveCacheExporterFunc{
		"inline": inline.ResolveCacheExporterFunc(), "local": localcache.ResolveCacheExporterFunc(sessions),
		"registry": registrycache.ResolveCacheExporterFunc(sessions, hosts), "gha": gha.ResolveCacheExporterFunc(nil, nil),
		"s3":     exportAs("s3", s3.ResolveCacheExporterFunc()),
		"azblob": exportAs("azblob", azblob.ResolveCacheExporterFunc()),
	}
}

// cacheImporters are those that --cache-from knows.
func cacheImporters(sessions *session.Manager, hosts docker.RegistryHosts, blobs content.Store) map[string]remotecache.ResolveCacheImporterFunc {
	return map[string]remotecache.ResolveCacheImporterFunc{
		"local": localcache.ResolveCacheImporterFunc(sessions), "registry": registrycache.ResolveCacheImporterFunc(sessions, blobs, hosts),
		"gha": gha.ResolveCacheImporterFunc(nil, nil), "s3": importAs("s3", s3.ResolveCacheImporterFunc()), "azblob": importAs("azblob", azblob.ResolveCacheImporterFunc()),
	}
}

// cloudKeys are what a client must bring for a cache at a cloud. The libraries would
// otherwise look for the daemon's own: in its environment, root's folder, or at the
// machine's metadata service, so that whoever may build could act as the machine.
var cloudKeys = map[string][]string{"s3": {"access_key_id", "secret_access_key"}, "azblob": {"secret_access_key"}}

func brings(kind string, attrs map[string]string) error {
	for _, key := range cloudKeys[kind] {
		if attrs[key] == "" {
			return invalid("cache of type %s: %s is missing: the daemon's own credentials are not used for builds", kind, key)
		}
	}
	return nil
}

func exportAs(kind string, make remotecache.ResolveCacheExporterFunc) remotecache.ResolveCacheExporterFunc {
	return func(ctx context.Context, g session.Group, attrs map[string]string) (remotecache.Exporter, error) {
		if err := brings(kind, attrs); err != nil {
			return nil, err
		}
		return make(ctx, g, attrs)
	}
}

func importAs(kind string, make remotecache.ResolveCacheImporterFunc) remotecache.ResolveCacheImporterFunc {
	return func(ctx context.Context, g session.Group, attrs map[string]string) (remotecache.Importer, ocispecs.Descriptor, error) {
		if err := brings(kind, attrs); err != nil {
			return nil, ocispecs.Descriptor{}, err
		}
		return make(ctx, g, attrs)
	}
}
