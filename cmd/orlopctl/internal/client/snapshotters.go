package client

import (
	"context"
	"sort"

	"github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/api/types"

	"github.com/orlop/orlop/core/mount"
)

// Snapshotters are the names of the daemon's working snapshotters, the
// preferred ones first.
func (c *Client) Snapshotters(ctx context.Context) []string {
	r, err := introspection.NewIntrospectionClient(c.conn).Plugins(ctx, &introspection.PluginsRequest{
		Filters: []string{"type==io.containerd.snapshotter.v1"},
	})
	if err != nil {
		return preferred
	}
	var out []string
	for _, p := range r.Plugins {
		if p.InitErr == nil {
			out = append(out, p.ID)
		}
	}
	rank := func(name string) int {
		for i, p := range preferred {
			if p == name {
				return i
			}
		}
		return len(preferred)
	}
	sort.SliceStable(out, func(i, j int) bool { return rank(out[i]) < rank(out[j]) })
	return out
}

// Mounts converts mounts of messages.
func Mounts(list []*types.Mount) []mount.Mount {
	out := make([]mount.Mount, len(list))
	for i, m := range list {
		out[i] = mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return out
}
