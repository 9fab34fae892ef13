package protobuf

import (
	"github.com/containerd/containerd/api/types"

	"github.com/orlop/orlop/core/container"
	"github.com/orlop/orlop/core/sandbox"
)

// ToSandbox writes a sandbox.
func ToSandbox(s sandbox.Sandbox) *types.Sandbox {
	return &types.Sandbox{
		SandboxID: s.ID, Labels: s.Labels, Sandboxer: s.Sandboxer,
		Runtime: &types.Sandbox_Runtime{Name: s.Runtime.Name, Options: ToAny(s.Runtime.Options)},
		Spec:    ToAny(s.Spec), Extensions: toAnys(s.Extensions), CreatedAt: ToTime(s.Created), UpdatedAt: ToTime(s.Updated),
	}
}

// FromSandbox reads a sandbox.
func FromSandbox(s *types.Sandbox) sandbox.Sandbox {
	return sandbox.Sandbox{
		ID: s.GetSandboxID(), Labels: s.GetLabels(), Sandboxer: s.GetSandboxer(),
		Runtime: container.Runtime{Name: s.GetRuntime().GetName(), Options: FromAny(s.GetRuntime().GetOptions())},
		Spec:    FromAny(s.GetSpec()), Extensions: fromAnys(s.GetExtensions()),
		Created: FromTime(s.GetCreatedAt()), Updated: FromTime(s.GetUpdatedAt()),
	}
}

// ToMetric writes what something uses.
func ToMetric(m sandbox.Metric) *types.Metric {
	return &types.Metric{Timestamp: ToTime(m.At), ID: m.ID, Data: ToAny(m.Data)}
}

// FromMetric reads what something uses.
func FromMetric(m *types.Metric) sandbox.Metric {
	return sandbox.Metric{At: FromTime(m.GetTimestamp()), ID: m.GetID(), Data: FromAny(m.GetData())}
}
