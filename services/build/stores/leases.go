package stores

import (
	"context"

	ctd "github.com/containerd/containerd/v2/core/leases"

	"github.com/orlop/orlop/core/lease"
)

// Leases shows a manager of leases.
type Leases struct{ Manager lease.Manager }

var _ ctd.Manager = Leases{}

func toLease(l lease.Lease) ctd.Lease {
	return ctd.Lease{ID: l.ID, CreatedAt: l.Created, Labels: l.Labels}
}

// RunLabel marks leases that end with the daemon that made them.
const RunLabel = "orlop.io/build.run"

// temporary is the label by which BuildKit marks leases of what is under way.
const temporary = "buildkit/lease.temporary"

// Create implements the manager.
func (m Leases) Create(ctx context.Context, opts ...ctd.Opt) (ctd.Lease, error) {
	var l ctd.Lease
	for _, opt := range opts {
		if err := opt(&l); err != nil {
			return l, err
		}
	}
	if _, ok := l.Labels[temporary]; ok {
		l.Labels[RunLabel] = ""
	}
	made, err := m.Manager.Create(in(ctx), lease.Lease{ID: l.ID, Labels: l.Labels})
	return toLease(made), err
}

// Delete implements the manager.
func (m Leases) Delete(ctx context.Context, l ctd.Lease, opts ...ctd.DeleteOpt) error {
	var o ctd.DeleteOptions
	for _, opt := range opts {
		if err := opt(ctx, &o); err != nil {
			return err
		}
	}
	return m.Manager.Delete(in(ctx), l.ID, o.Synchronous)
}

// List implements the manager.
func (m Leases) List(ctx context.Context, filters ...string) ([]ctd.Lease, error) {
	list, err := m.Manager.List(in(ctx), filters...)
	out := make([]ctd.Lease, len(list))
	for i, l := range list {
		out[i] = toLease(l)
	}
	return out, err
}

// AddResource implements the manager.
func (m Leases) AddResource(ctx context.Context, l ctd.Lease, r ctd.Resource) error {
	return m.Manager.AddResource(in(ctx), l.ID, lease.Resource(r))
}

// DeleteResource implements the manager.
func (m Leases) DeleteResource(ctx context.Context, l ctd.Lease, r ctd.Resource) error {
	return m.Manager.DeleteResource(in(ctx), l.ID, lease.Resource(r))
}

// ListResources implements the manager.
func (m Leases) ListResources(ctx context.Context, l ctd.Lease) ([]ctd.Resource, error) {
	list, err := m.Manager.Resources(in(ctx), l.ID)
	out := make([]ctd.Resource, len(list))
	for i, r := range list {
		out[i] = ctd.Resource(r)
	}
	return out, err
}
