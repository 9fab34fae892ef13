package build

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/network/dns"
	networks "github.com/orlop/orlop/services/network"
)

// defaultNetwork is what steps are connected to that ask for nothing else.
const defaultNetwork = "bridge"

// providers are the networks that steps may ask for; files is where those are that they
// mount.
func providers(s *networks.Service, files string, users *userns.Maps) map[pb.NetMode]network.Provider {
	if users != nil {
		return remappedProviders(s, files, users)
	}
	out := map[pb.NetMode]network.Provider{pb.NetMode_HOST: network.NewHostProvider(), pb.NetMode_NONE: network.NewNoneProvider()}
	out[pb.NetMode_UNSET] = out[pb.NetMode_HOST]
	if s != nil {
		out[pb.NetMode_UNSET] = bridged{s, files, nil}
	}
	return out
}

// remappedProviders are those for steps whose root isn't the host's: whose network isn't
// either.
func remappedProviders(s *networks.Service, files string, users *userns.Maps) map[pb.NetMode]network.Provider {
	none := remapped{network.NewNoneProvider(), *users}
	out := map[pb.NetMode]network.Provider{pb.NetMode_NONE: none, pb.NetMode_UNSET: none}
	if s != nil {
		out[pb.NetMode_UNSET] = bridged{s, files, users}
	}
	return out
}

// bridged connects each step to the default network, or to the one that it names.
type bridged struct {
	networks *networks.Service
	files    string
	users    *userns.Maps // nil: the host's
}

// New makes a namespace for one step.
func (b bridged) New(ctx context.Context, hostname string, _ network.NamespaceOptions) (network.Namespace, error) {
	raw := make([]byte, 32)
	rand.Read(raw)
	id := hex.EncodeToString(raw)
	made, err := b.networks.Prepare(ctx, networks.Plan{ID: id, Name: "build-" + id[:12], Wishes: []networks.Wish{{Network: networkOf(ctx)}}, Users: b.users})
	if err != nil {
		return nil, err
	}
	out := &sandbox{networks: b.networks, id: id, path: made.Path, users: b.users, owner: made.Users}
	now, err := b.networks.Connect(ctx, id)
	if text := b.resolvOf(now); err == nil && text != "" {
		out.resolv = filepath.Join(b.files, "resolv."+id)
		err = os.WriteFile(out.resolv, []byte(text), 0o644)
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// resolvOf is a step's resolv.conf, empty for the host's.
func (b bridged) resolvOf(now networks.Sandbox) string {
	n := b.networks.Naming()
	var text strings.Builder
	switch {
	case now.Resolves():
		fmt.Fprintf(&text, "nameserver %s\n", dns.Address)
		n.Options = append(slices.Clone(n.Options), "ndots:0")
	case len(n.Servers) == 0:
		return ""
	default:
		for _, a := range n.Servers {
			fmt.Fprintf(&text, "nameserver %s\n", a)
		}
	}
	if len(n.Search) > 0 {
		fmt.Fprintf(&text, "search %s\n", strings.Join(n.Search, " "))
	}
	if len(n.Options) > 0 {
		fmt.Fprintf(&text, "options %s\n", strings.Join(n.Options, " "))
	}
	return text.String()
}

// Close leaves the networks to the daemon.
func (b bridged) Close() error { return nil }

// sandbox is the namespace of a step.
type sandbox struct {
	networks *networks.Service
	id, path string
	resolv   string // the step's resolv.conf, empty for the host's
	users    *userns.Maps
	owner    string // where the user namespace is that the network's belongs to
}

// Set names it in the step's spec.
func (s *sandbox) Set(spec *specs.Spec) error {
	if s.users != nil {
		setUsers(spec, s.users, s.owner)
	}
	for i, m := range spec.Mounts {
		if m.Destination == "/etc/resolv.conf" && s.resolv != "" {
			spec.Mounts[i].Source = s.resolv
		}
	}
	for i, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			spec.Linux.Namespaces[i].Path = s.path
			return nil
		}
	}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: s.path})
	return nil
}

// Close leaves the network.
func (s *sandbox) Close() error {
	err := s.networks.Leave(context.Background(), s.id)
	if s.resolv != "" {
		err = errors.Join(err, os.Remove(s.resolv))
	}
	return err
}

// Sample isn't taken.
func (s *sandbox) Sample() (*types.NetworkSample, error) { return nil, nil }
