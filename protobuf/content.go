package protobuf

import (
	wire "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
)

// ToContentInfo writes what is known of a blob.
func ToContentInfo(i content.Info) *wire.Info {
	return &wire.Info{Digest: i.Digest.String(), Size: i.Size, CreatedAt: ToTime(i.Created), UpdatedAt: ToTime(i.Updated), Labels: i.Labels}
}

// FromContentInfo reads what is known of a blob.
func FromContentInfo(i *wire.Info) content.Info {
	return content.Info{
		Digest: digest.Digest(i.GetDigest()), Size: i.GetSize(), Labels: i.GetLabels(),
		Created: FromTime(i.GetCreatedAt()), Updated: FromTime(i.GetUpdatedAt()),
	}
}

// ToContentStatus writes where an ingest stands.
func ToContentStatus(s content.Status) *wire.Status {
	return &wire.Status{
		StartedAt: ToTime(s.Started), UpdatedAt: ToTime(s.Updated), Ref: s.Ref, Offset: s.Offset, Total: s.Total, Expected: s.Expected.String(),
	}
}

// FromContentStatus reads where an ingest stands.
func FromContentStatus(s *wire.Status) content.Status {
	return content.Status{
		Ref: s.GetRef(), Offset: s.GetOffset(), Total: s.GetTotal(), Expected: digest.Digest(s.GetExpected()),
		Started: FromTime(s.GetStartedAt()), Updated: FromTime(s.GetUpdatedAt()),
	}
}
