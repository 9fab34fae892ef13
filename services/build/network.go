package build

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	networks "github.com/orlop/orlop/services/network"
)

// defaultNetwork is what steps are connected to that ask for nothing else.
const defaultNetwork = "bridge"

// providers are the networks that steps may ask for.
func providers(s *networks.Service) map[pb.NetMode]network.Provider {
	out := map[pb.NetMode]network.Provider{pb.NetMode_HOST: network.NewHostProvider(), pb.NetMode_NONE: network.NewNoneProvider()}
	out[pb.NetMode_UNSET] = out[pb.NetMode_HOST]
	if s != nil {
		out[pb.NetMode_UNSET] = bridged{s}
	}
	return out
}

// bridged connects each step to the default network.
type bridged struct{ networks *networks.Service }

// New makes a namespace for one step.
func (b bridged) New(ctx context.Context, hostname string, _ network.NamespaceOptions) (network.Namespace, error) {
	raw := make([]byte, 32)
	rand.Read(raw)
	id := hex.EncodeToString(raw)
	made, err := b.networks.Prepare(ctx, networks.Plan{ID: id, Name: "build-" + id[:12], Wishes: []networks.Wish{{Network: defaultNetwork}}})
	if err != nil {
		return nil, err
	}
	if _, err := b.networks.Connect(ctx, id); err != nil {
		return nil, err
	}
	return &sandbox{b.networks, id, made.Path}, nil
}

// Close leaves the networks to the daemon.
func (b bridged) Close() error { return nil }

// sandbox is the namespace of a step.
type sandbox struct {
	networks *networks.Service
	id, path string
}

// Set names it in the step's spec.
func (s *sandbox) Set(spec *specs.Spec) error {
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
func (s *sandbox) Close() error { return s.networks.Leave(context.Background(), s.id) }

// Sample isn't taken.
func (s *sandbox) Sample() (*types.NetworkSample, error) { return nil, nil }
