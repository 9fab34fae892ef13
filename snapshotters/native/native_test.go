package native_test

import (
	"testing"

	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/native"
	"github.com/orlop/orlop/snapshotters/snapshottest"
)

func TestConformance(t *testing.T) {
	snapshottest.Run(t, func(t *testing.T) snapshotters.Driver {
		d, err := native.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}
