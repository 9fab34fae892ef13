package overlayfs_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/overlayfs"
	"github.com/orlop/orlop/snapshotters/snapshottest"
)

func open(t *testing.T) snapshotters.Driver {
	d, err := overlayfs.Open(t.TempDir(), overlayfs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) { snapshottest.Run(t, open) }

func TestRefusals(t *testing.T) {
	d := open(t)
	defer d.Close()
	many := snapshotters.Storage{ID: "x", Kind: snapshotters.KindActive, Parents: make([]string, 501)}
	if _, err := d.Create(context.Background(), many); err == nil || !strings.Contains(err.Error(), "501 layers") {
		t.Error(err)
	}
	quota := snapshotters.Storage{ID: "x", Kind: snapshotters.KindActive, Labels: map[string]string{"containerd.io/snapshot/max-size": "1"}}
	if _, err := d.Create(context.Background(), quota); err == nil {
		t.Error("a quota that isn't kept is no error")
	}
}

// Broken drivers, to see that the suite can fail.

type keepsDeleted struct{ snapshotters.Unpacker }

func (d keepsDeleted) Create(ctx context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if len(s.Parents) > 1 {
		s.Parents = s.Parents[:1] // forgets the older layers
	}
	return d.Unpacker.Create(ctx, s)
}

type writableViews struct{ snapshotters.Unpacker }

func (d writableViews) Create(ctx context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	s.Kind = snapshotters.KindActive
	return d.Unpacker.Create(ctx, s)
}

type swallowsErrors struct{ snapshotters.Unpacker }

func (d swallowsErrors) Unpack(ctx context.Context, id string, tar io.Reader, l map[string]string) (snapshotters.Usage, error) {
	u, err := d.Unpacker.Unpack(ctx, id, tar, l)
	if err != nil {
		_, err = d.Create(ctx, snapshotters.Storage{ID: id, Kind: snapshotters.KindActive})
	}
	return u, err
}

func TestSuiteCanFail(t *testing.T) {
	wrap := map[string]func(snapshotters.Unpacker) snapshotters.Driver{
		"chain":                         func(d snapshotters.Unpacker) snapshotters.Driver { return keepsDeleted{d} },
		"views_can't_be_written":        func(d snapshotters.Unpacker) snapshotters.Driver { return writableViews{d} },
		"unpack_failing_leaves_nothing": func(d snapshotters.Unpacker) snapshotters.Driver { return swallowsErrors{d} },
	}
	if name := os.Getenv("BROKEN_DRIVER"); name != "" {
		snapshottest.Run(t, func(t *testing.T) snapshotters.Driver { return wrap[name](open(t).(snapshotters.Unpacker)) })
		return
	}
	if os.Getuid() != 0 {
		t.Skip("the suite skips without root")
	}
	for name := range wrap {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSuiteCanFail$", "-test.v")
		cmd.Env = append(os.Environ(), "BROKEN_DRIVER="+name)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "--- FAIL: TestSuiteCanFail/"+name) {
			t.Errorf("the suite doesn't see the broken driver %q:\n%s", name, out)
		}
	}
}
