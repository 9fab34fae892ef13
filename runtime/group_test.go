package runtime

import (
	"testing"

	"github.com/orlop/orlop/runtime/cgroup"
)

// The root of a hierarchy tells nothing of being frozen, and is none the less a group.
func TestRootIsThawed(t *testing.T) {
	for name, g := range map[string]*cgroup.Group{
		"version 1": {V1: []cgroup.Hierarchy{{Dir: t.TempDir(), Controllers: []string{"freezer"}}}},
		"version 2": {V2: t.TempDir(), Unified: true},
		"none":      {},
	} {
		if err := thawed(g); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
