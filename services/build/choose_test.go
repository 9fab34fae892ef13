package build

import (
	"slices"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

func TestChoose(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	// A base of an image, two steps upon it, a leaf of each, a context, a frontend.
	list := []*client.UsageInfo{
		{ID: "base", Size: 1000, Shared: true, LastUsedAt: ago(9 * hour)},
		{ID: "old", Size: 10, Parents: []string{"base"}, LastUsedAt: ago(8 * hour)},
		{ID: "new", Size: 20, Parents: []string{"base"}, LastUsedAt: ago(hour)},
		{ID: "oldleaf", Size: 5, Parents: []string{"old"}, LastUsedAt: ago(7 * hour)},
		{ID: "newleaf", Size: 5, Parents: []string{"new"}, LastUsedAt: ago(hour), InUse: true},
		{ID: "context", Size: 3, RecordType: client.UsageRecordTypeLocalSource, CreatedAt: now.Add(-2 * hour)},
		{ID: "frontend", Size: 2, RecordType: client.UsageRecordTypeFrontend, LastUsedAt: ago(20 * hour)},
	}
	for name, c := range map[string]struct {
		rule client.PruneInfo
		free int64
		want []string
	}{
		"anything":          {client.PruneInfo{}, 0, []string{"oldleaf", "old", "context"}},
		"all":               {client.PruneInfo{All: true}, 0, []string{"frontend", "oldleaf", "old", "context"}},
		"within the bound":  {client.PruneInfo{MaxUsedSpace: 45}, 0, nil},
		"the oldest leaf":   {client.PruneInfo{MaxUsedSpace: 40}, 0, []string{"oldleaf"}},
		"and what it is on": {client.PruneInfo{MaxUsedSpace: 39}, 0, []string{"oldleaf", "old"}},
		"all it can":        {client.PruneInfo{MaxUsedSpace: 1}, 0, []string{"oldleaf", "old", "context"}},
		"reserved":          {client.PruneInfo{MaxUsedSpace: 1, ReservedSpace: 40}, 0, []string{"oldleaf"}},
		"a kind":            {client.PruneInfo{Filter: []string{"type==source.local"}}, 0, []string{"context"}},
		"not used for long": {client.PruneInfo{KeepDuration: 3 * hour}, 0, []string{"oldleaf", "old"}},
		"the disk has room": {client.PruneInfo{MinFreeSpace: 100}, 100, nil},
		"the disk lacks 6":  {client.PruneInfo{MinFreeSpace: 100}, 94, []string{"oldleaf", "old"}},
	} {
		got, err := choose(list, c.rule, now, c.free)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
	if _, err := choose(list, client.PruneInfo{Filter: []string{"type=="}}, now, 0); err == nil {
		t.Error("a broken filter is taken")
	}
}

func TestChains(t *testing.T) {
	blobs := map[string]digest.Digest{"base": "sha256:a", "step": "sha256:b", "upon": "sha256:c", "merged": "sha256:d"}
	known := map[string]*client.UsageInfo{"base": {}, "step": {Parents: []string{"base"}}, "bare": {Parents: []string{"step"}}, "upon": {Parents: []string{"bare"}},
		"merged": {Parents: []string{"base", "step"}}, "lost": {Parents: []string{"gone"}}}
	c := chains{known: known, blob: func(id string) digest.Digest { return blobs[id] }, found: map[string][]digest.Digest{}}
	for id, want := range map[string][]digest.Digest{"base": {"sha256:a"}, "step": {"sha256:a", "sha256:b"}, "bare": nil, "upon": nil, "merged": nil, "lost": nil} {
		for range 2 {
			if got, ok := c.of(id); !slices.Equal(got, want) || ok != (want != nil) {
				t.Errorf("%s: %v %v, want %v", id, got, ok, want)
			}
		}
	}
}
