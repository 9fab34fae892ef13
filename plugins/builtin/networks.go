package builtin

import (
	"context"

	"github.com/containerd/log"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/bridge"
	"github.com/orlop/orlop/network/host"
	"github.com/orlop/orlop/network/macvlan"
	"github.com/orlop/orlop/network/none"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
)

// bridgeConfig is how bridged networks are set up.
type bridgeConfig struct {
	// Mark is the name of the nftables tables and the beginning of interfaces'
	// aliases; daemons that share a host need one each. Empty derives it from the
	// state folder: orlop, for the usual one.
	Mark string `toml:"mark"`
	// AcceptMark is put into the mark of packets that are let through, for other
	// firewalls that refuse by default; 0 is none.
	AcceptMark uint32 `toml:"accept_mark"`
}

// networks adds the drivers.
func networks(r *plugins.Registry, d *Daemon) {
	plugins.Provide(r, kinds.Network, "bridge", func(s *plugins.Scope) plugins.Build[network.Driver] {
		cfg := plugins.Config(s, bridgeConfig{})
		if cfg.Mark == "" {
			cfg.Mark = ours(s.Settings().State, "")
		}
		return func(ctx context.Context) (network.Driver, error) {
			report := func(err error) { log.G(ctx).WithError(err).Warn("bridged networks") }
			return bridge.Open(bridge.Config{Mark: cfg.Mark, AcceptMark: cfg.AcceptMark, Ports: d.Ports, Report: report})
		}
	})
	for _, kind := range []macvlan.Kind{macvlan.Macvlan, macvlan.Ipvlan} {
		plugins.Provide(r, kinds.Network, string(kind), func(s *plugins.Scope) plugins.Build[network.Driver] {
			mark := ours(s.Settings().State, "")
			return func(context.Context) (network.Driver, error) {
				return macvlan.Open(macvlan.Config{Kind: kind, Mark: mark})
			}
		})
	}
	plugins.Provide(r, kinds.Network, "host", func(*plugins.Scope) plugins.Build[network.Driver] {
		return func(context.Context) (network.Driver, error) { return host.New(), nil }
	})
	plugins.Provide(r, kinds.Network, "none", func(*plugins.Scope) plugins.Build[network.Driver] {
		return func(context.Context) (network.Driver, error) { return none.New(), nil }
	})
}
