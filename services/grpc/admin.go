package grpc

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	wire "github.com/orlop/orlop/api/orlop/admin/v1"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/services/collect"
	"github.com/orlop/orlop/services/fsck"
)

// Admin serves Orlop's own admin service.
type Admin struct {
	wire.UnimplementedAdminServer
	// Collect collects garbage, or only tells what it would take.
	Collect func(ctx context.Context, dry bool) (collect.Result, error)
	Checker *fsck.Checker
}

// Register implements Service.
func (s *Admin) Register(r grpc.ServiceRegistrar) { wire.RegisterAdminServer(r, s) }

// maxRemoved bounds the list of what was removed, so that it fits a message: an
// entry takes some 200 bytes. All are counted in the bytes.
const maxRemoved = 50_000

// GC collects garbage now.
func (s *Admin) GC(ctx context.Context, r *wire.GCRequest) (*wire.GCResponse, error) {
	st, err := s.Collect(ctx, r.DryRun)
	if err != nil {
		return nil, err
	}
	resp := &wire.GCResponse{Pause: durationpb.New(st.Pause), Took: durationpb.New(st.Took), Kept: uint64(st.Kept)}
	for i, x := range st.Removed {
		resp.Bytes += uint64(x.Bytes)
		if i < maxRemoved {
			resp.Removed = append(resp.Removed, toRemoved(x))
		}
	}
	return resp, nil
}

func toRemoved(x collect.Removed) *wire.Removed {
	out := &wire.Removed{Namespace: x.Node.Namespace, Kind: x.Node.Type.String(), Id: x.Node.Key, Bytes: uint64(x.Bytes)}
	if x.Node.Type == gc.Snapshot {
		out.Snapshotter, out.Id, _ = strings.Cut(x.Node.Key, "/")
	}
	return out
}

// Fsck sends what it finds.
func (s *Admin) Fsck(r *wire.FsckRequest, out grpc.ServerStreamingServer[wire.FsckResponse]) error {
	opts := fsck.Options{Repair: r.Repair, Verify: r.VerifyContent}
	end, err := s.Checker.Check(out.Context(), opts, func(f *fsck.Finding, p fsck.Progress) error {
		m := &wire.FsckResponse{Checked: p.Checked, Bytes: p.Bytes}
		if f != nil {
			m.Finding = toFinding(f)
		}
		return out.Send(m)
	})
	if err != nil {
		return err
	}
	return out.Send(&wire.FsckResponse{Checked: end.Checked, Bytes: end.Bytes, Done: true})
}

func toFinding(f *fsck.Finding) *wire.Finding {
	w := &wire.Finding{
		Severity: wire.Severity(f.Severity), Code: f.Code, Namespace: f.Namespace, Kind: f.Kind, Id: f.ID, Message: f.Message, Repaired: f.Repaired,
	}
	if f.RepairErr != nil {
		w.RepairError = f.RepairErr.Error()
	}
	return w
}
