package builtin

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	core "github.com/orlop/orlop/core/registry"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/services/registry"
	"github.com/orlop/orlop/services/registry/replicate"
)

// registryReplication pushes what changes here to another registry.
type registryReplication struct {
	// Name names the rule; a new name begins anew.
	Name string `toml:"name"`
	// Repositories are patterns; empty is all but caches.
	Repositories []string `toml:"repositories"`
	// Tags are patterns; empty is all tags, and manifests without one.
	Tags []string `toml:"tags"`
	// Target is the other registry, such as registry.example.com.
	Target string `toml:"target"`
	// Prefix begins the names of repositories there, such as mirror/.
	Prefix string `toml:"prefix"`
	// Deletes removes there what is removed here.
	Deletes bool `toml:"deletes"`
	// Parallel is how much is pushed side by side; 0 is 4.
	Parallel int `toml:"parallel"`
	// Retry is how long to wait after the first try that is refused, such as 1s; it
	// doubles up to ten minutes. Empty is 1s.
	Retry string `toml:"retry"`
	// Username logs in to the target; empty is nobody in particular.
	Username string `toml:"username"`
	// PasswordFile has the password or token.
	PasswordFile string `toml:"password_file"`
	// PlainHTTP reaches it without TLS. This machine always is.
	PlainHTTP bool `toml:"plain_http"`
	// HostDirs are searched for HOST/hosts.toml, such as /etc/containerd/certs.d.
	HostDirs []string `toml:"host_dirs"`
}

func (c registryReplication) rule() (out replicate.Rule, err error) {
	out = replicate.Rule{Name: c.Name, Host: c.Target, Prefix: c.Prefix, Deletes: c.Deletes, Parallel: c.Parallel,
		Client: registryUpstream{Registry: c.Target, Username: c.Username, PasswordFile: c.PasswordFile, PlainHTTP: c.PlainHTTP, HostDirs: c.HostDirs}.client()}
	if out.Repositories, err = patterns(c.Repositories); err != nil {
		return out, err
	}
	if out.Tags, err = patterns(c.Tags); err != nil {
		return out, err
	}
	if c.Retry != "" {
		if out.First, err = time.ParseDuration(c.Retry); err != nil {
			return out, fmt.Errorf("retry: %q is no time such as 1s", c.Retry)
		}
	}
	return out, out.Validate()
}

// patterns may be none.
func patterns(list []string) (core.Patterns, error) {
	if len(list) == 0 {
		return nil, nil
	}
	return core.ParsePatterns(list)
}

func (c *registryConfig) replications() (out []replicate.Rule, err error) {
	seen := map[string]bool{}
	for i, one := range c.Replication {
		rule, err := one.rule()
		if err == nil && seen[one.Name] {
			err = fmt.Errorf("name: %q is another's", one.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("replication: rule %d: %w", i+1, err)
		}
		seen[one.Name] = true
		rule.Except = c.cached
		out = append(out, rule)
	}
	return out, nil
}

// cached tells whether a repository is a cache of another registry's.
func (c *registryConfig) cached(repo string) bool {
	for _, u := range c.Upstreams {
		if u.Prefix == "" || strings.HasPrefix(repo, u.Prefix+"/") {
			return true
		}
	}
	return false
}

// replicator starts the rules; without any it only forgets what earlier ones had queued.
func (d *registryDoor) replicator() (*replicate.Replicator, error) {
	rules, err := d.cfg.replications()
	if err != nil {
		return nil, err
	}
	return replicate.Open(rules, replicate.Parts{Catalog: d.db.Registry(), Outbox: d.db.Outbox(), Blobs: d.db.Content(), Namespace: metadata.RegistryNamespace})
}

// told adds the replicator's path.
func told(r *replicate.Replicator, auth registry.Authorizer, next http.Handler) http.Handler {
	own := r.Handler(auth)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == replicate.Path {
			own.ServeHTTP(w, req)
			return
		}
		next.ServeHTTP(w, req)
	})
}
