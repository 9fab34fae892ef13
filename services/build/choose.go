package build

import (
	"cmp"
	"container/heap"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/orlop/orlop/core/filter"
)

// choose names the records that a rule drops, in an order in which none is before one
// that stands on it. free is what the disk has left, in bytes.
//
// A rule without a bound drops all that it fits; with one, those that were used longest
// ago, until what is left is within it. What images hold counts for no bound, since
// nothing is gained by dropping it.
func choose(list []*client.UsageInfo, rule client.PruneInfo, now time.Time, free int64) ([]string, error) {
	fits, err := filter.Parse(rule.Filter...)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	above := map[string]int{} // how many stand on it
	known := map[string]*client.UsageInfo{}
	for _, u := range list {
		if !u.Shared {
			total += u.Size
		}
		for _, p := range u.Parents {
			above[p]++
		}
		known[u.ID] = u
	}
	bound, bounded := keep(rule, total, free)
	var ready oldest
	for _, u := range list {
		if above[u.ID] == 0 {
			ready = append(ready, u)
		}
	}
	heap.Init(&ready)
	var ids []string
	for len(ready) > 0 && (!bounded || total > bound) {
		u := heap.Pop(&ready).(*client.UsageInfo)
		if u.InUse || bounded && u.Shared || !droppable(u, rule, now) || !fits.Match(fieldsOf(u)) {
			continue // and so stays what it stands on
		}
		ids = append(ids, u.ID)
		if !u.Shared {
			total -= u.Size
		}
		for _, p := range u.Parents {
			if above[p]--; above[p] == 0 && known[p] != nil {
				heap.Push(&ready, known[p])
			}
		}
	}
	return ids, nil
}

// keep is how many bytes may stay, if a rule bounds them.
func keep(rule client.PruneInfo, total, free int64) (bytes int64, bounded bool) {
	if rule.MaxUsedSpace == 0 && rule.ReservedSpace == 0 && rule.MinFreeSpace == 0 {
		return 0, false
	}
	bytes = rule.MaxUsedSpace
	if lack := rule.MinFreeSpace - free; rule.MinFreeSpace > 0 && lack > 0 {
		if bytes == 0 || total-lack < bytes {
			bytes = total - lack
		}
	} else if rule.MinFreeSpace > 0 && bytes == 0 {
		bytes = total // there is room
	}
	return max(bytes, rule.ReservedSpace), true
}

// droppable tells whether a rule may take a record, but for its filter.
func droppable(u *client.UsageInfo, rule client.PruneInfo, now time.Time) bool {
	if !rule.All && (u.Shared || u.RecordType == client.UsageRecordTypeInternal || u.RecordType == client.UsageRecordTypeFrontend) {
		return false
	}
	return rule.KeepDuration == 0 || !lastUse(u).After(now.Add(-rule.KeepDuration))
}

// oldest is a heap of records, of which that comes first which was used longest ago.
type oldest []*client.UsageInfo

func (o oldest) Len() int { return len(o) }

func (o oldest) Less(i, j int) bool {
	return cmp.Or(lastUse(o[i]).Compare(lastUse(o[j])), cmp.Compare(o[i].ID, o[j].ID)) < 0
}

func (o oldest) Swap(i, j int) { o[i], o[j] = o[j], o[i] }

func (o *oldest) Push(x any) { *o = append(*o, x.(*client.UsageInfo)) }

func (o *oldest) Pop() any {
	old := *o
	u := old[len(old)-1]
	*o = old[:len(old)-1]
	return u
}

func lastUse(u *client.UsageInfo) time.Time {
	if u.LastUsedAt != nil {
		return *u.LastUsedAt
	}
	return u.CreatedAt
}
