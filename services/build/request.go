package build

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/identity"
)

// Request is a build as the Docker API asks for it.
type Request struct {
	// ID names the build, so that it can be cancelled; empty chooses one.
	ID string
	// Tags are the image's names.
	Tags []string
	// Remote is where the context is; empty is the body of the request, and
	// [ClientSession] what the client's session offers.
	Remote string
	// Session is the client's.
	Session string
	// Dockerfile is its path in the context.
	Dockerfile string
	Target     string
	Args       map[string]*string
	Labels     map[string]string
	Platform   string
	Network    string
	ExtraHosts []string
	CacheFrom  []string
	NoCache    bool
	Pull       bool
	Quiet      bool
	ShmSize    int64    // bytes
	Ulimits    []string // name=soft:hard
	Cgroup     string
	// Outputs are exporters with their attributes; none is the image store.
	Outputs []Output
	// Auths are credentials by registry.
	Auths map[string]Auth
	// Trace says that progress is told in BuildKit's form.
	Trace bool
}

// Output is one thing that a build makes.
type Output struct {
	Type  string            `json:"Type"`
	Attrs map[string]string `json:"Attrs"`
}

// Auth are the credentials of a registry.
type Auth struct{ User, Secret string }

// ClientSession is the name of a context that the client's session offers.
const ClientSession = "client-session"

func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
}

// names are the tags as whole references.
func (r *Request) names() ([]string, error) {
	var out []string
	for _, tag := range r.Tags {
		named, err := reference.ParseNormalizedNamed(tag)
		if err != nil {
			return nil, invalid("invalid argument %q for \"-t, --tag\" flag: %v", tag, err)
		}
		if _, digested := named.(reference.Canonical); digested {
			return nil, invalid("build tag cannot contain a digest: %q", tag)
		}
		out = append(out, reference.TagNameOnly(named).String())
	}
	return out, nil
}

// solve is the request as the solver takes it, but for the context.
func (r *Request) solve() (*controlapi.SolveRequest, error) {
	names, err := r.names()
	if err != nil {
		return nil, err
	}
	attrs, err := r.attributes()
	if err != nil {
		return nil, err
	}
	if r.ID == "" {
		r.ID = identity.NewID()
	}
	out := &controlapi.SolveRequest{Ref: r.ID, Session: r.Session, Frontend: "dockerfile.v0", FrontendAttrs: attrs, Cache: &controlapi.CacheOptions{}}
	for _, from := range r.CacheFrom {
		entry, err := cacheEntry(from)
		if err != nil {
			return nil, err
		}
		out.Cache.Imports = append(out.Cache.Imports, entry)
	}
	out.Cache.Exports = []*controlapi.CacheOptionsEntry{}
	if v := r.Args["BUILDKIT_INLINE_CACHE"]; v != nil {
		if on, err := strconv.ParseBool(*v); err == nil && on {
			out.Cache.Exports = append(out.Cache.Exports, &controlapi.CacheOptionsEntry{Type: "inline"})
		}
	}
	outputs := r.Outputs
	if len(outputs) == 0 {
		outputs = []Output{{Type: exporterMoby}}
	}
	for _, o := range outputs {
		set := maps.Clone(o.Attrs)
		if set == nil {
			set = map[string]string{}
		}
		if o.Type == exporterMoby && set["name"] == "" {
			set["name"] = strings.Join(names, ",")
		}
		out.Exporters = append(out.Exporters, &controlapi.Exporter{Type: o.Type, Attrs: set})
	}
	if r.Network == "host" {
		out.Entitlements = append(out.Entitlements, "network.host")
	}
	return out, nil
}

// cacheEntry reads an image's name, or type=…,….
func cacheEntry(text string) (*controlapi.CacheOptionsEntry, error) {
	if !strings.Contains(text, "=") {
		return &controlapi.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": text}}, nil
	}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, invalid("cache %q: %v", text, err)
	}
	out := &controlapi.CacheOptionsEntry{Attrs: map[string]string{}}
	for _, f := range fields {
		k, v, _ := strings.Cut(f, "=")
		if k == "type" {
			out.Type = v
		} else {
			out.Attrs[k] = v
		}
	}
	return out, nil
}

// attributes are what the Dockerfile frontend takes.
func (r *Request) attributes() (map[string]string, error) {
	out := map[string]string{}
	set := func(key, value string) {
		if value != "" {
			out[key] = value
		}
	}
	set(attrFilename, r.Dockerfile)
	set("target", r.Target)
	set("platform", r.Platform)
	set("cgroup-parent", r.Cgroup)
	set("ulimit", strings.Join(r.Ulimits, ","))
	for k, v := range r.Labels {
		out["label:"+k] = v
	}
	for k, v := range r.Args {
		if v != nil {
			out["build-arg:"+k] = *v
		}
	}
	if r.NoCache {
		out["no-cache"] = ""
	}
	if r.Pull {
		out["image-resolve-mode"] = "pull"
	}
	if r.ShmSize > 0 {
		set("shm-size", strconv.FormatInt(r.ShmSize, 10))
	}
	if r.Network != "default" && r.Network != defaultNetwork {
		set(attrNetwork, r.Network)
	}
	if len(r.ExtraHosts) > 0 {
		hosts, err := extraHosts(r.ExtraHosts)
		if err != nil {
			return nil, err
		}
		out["add-hosts"] = hosts
	}
	if len(r.CacheFrom) > 0 {
		var list []map[string]any
		for _, from := range r.CacheFrom {
			entry, err := cacheEntry(from)
			if err != nil {
				return nil, err
			}
			list = append(list, map[string]any{"Type": entry.Type, "Attrs": entry.Attrs})
		}
		data, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		out["cache-imports"] = string(data)
	}
	return out, nil
}

// extraHosts writes name=address pairs.
func extraHosts(list []string) (string, error) {
	out := make([]string, 0, len(list))
	for _, text := range list {
		name, address, ok := strings.Cut(text, ":")
		if !ok || name == "" || address == "" {
			return "", invalid("invalid host %q: it is name:address", text)
		}
		out = append(out, name+"="+address)
	}
	slices.Sort(out)
	return strings.Join(out, ","), nil
}
