// Package protobuf converts between the domain's types and those on the wire, a
// file per noun. Wire types are containerd's. FromX reads the wire, ToX writes
// it; nil messages become zero values, never panics.
package protobuf

import (
	"time"

	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ToTime writes a time; the zero time is nil.
func ToTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// FromTime reads a time; nil is the zero time.
func FromTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// Paths reads a field mask; nil means all fields.
func Paths(m *fieldmaskpb.FieldMask) []string { return m.GetPaths() }

// ToAny writes a typed value as it is.
func ToAny(a typeurl.Any) *anypb.Any {
	if a == nil {
		return nil
	}
	return &anypb.Any{TypeUrl: a.GetTypeUrl(), Value: a.GetValue()}
}

// FromAny reads a typed value; nil stays a nil interface.
func FromAny(a *anypb.Any) typeurl.Any {
	if a == nil {
		return nil
	}
	return a
}

func toAnys(m map[string]typeurl.Any) map[string]*anypb.Any {
	out := make(map[string]*anypb.Any, len(m))
	for k, v := range m {
		out[k] = ToAny(v)
	}
	return out
}

func fromAnys(m map[string]*anypb.Any) map[string]typeurl.Any {
	out := make(map[string]typeurl.Any, len(m))
	for k, v := range m {
		out[k] = FromAny(v)
	}
	return out
}

// Each converts a slice.
func Each[A, B any](in []A, convert func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = convert(a)
	}
	return out
}
