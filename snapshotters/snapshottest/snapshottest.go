// Package snapshottest holds the tests that every snapshotter driver passes.
// Drivers of others can run it too:
//
//	func TestDriver(t *testing.T) {
//		snapshottest.Run(t, func(t *testing.T) snapshotters.Driver { … })
//	}
//
// It mounts what drivers return, so it needs root; without, it skips.
package snapshottest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters"
)

// Run tests the driver that open makes anew for each test. Closing it is the
// suite's business.
func Run(t *testing.T, open func(t *testing.T) snapshotters.Driver) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"chain", (*suite).chain},
		{"deletions", (*suite).deletions},
		{"siblings are apart", (*suite).siblings},
		{"views can't be written", (*suite).views},
		{"root keeps its mode", (*suite).rootMode},
		{"usage", (*suite).usage},
		{"leftovers are listed and removed", (*suite).leftovers},
		{"bad IDs", (*suite).badIDs},
		{"side by side", (*suite).concurrent},
		{"mounts come again", (*suite).mountsAgain},
		{"unpack", (*suite).unpack},
		{"unpack failing leaves nothing", (*suite).unpackFails},
		{"unpacked and committed layers mix", (*suite).mixed},
		{"many layers", (*suite).manyLayers},
		{"diff", (*suite).diff},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			d := open(t)
			s := &suite{T: t, d: d, ctx: context.Background()}
			t.Cleanup(func() {
				ids, _ := d.List(s.ctx)
				for _, id := range ids {
					s.ok(d.Remove(s.ctx, id))
				}
				s.ok(d.Close())
			})
			c.run(s)
		})
	}
}

type suite struct {
	*testing.T
	d   snapshotters.Driver
	ctx context.Context
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func active(id string, parents ...string) snapshotters.Storage {
	return snapshotters.Storage{ID: id, Kind: snapshotters.KindActive, Parents: parents}
}

func view(id string, parents ...string) snapshotters.Storage {
	return snapshotters.Storage{ID: id, Kind: snapshotters.KindView, Parents: parents}
}

// in makes the snapshot and runs fn in its tree.
func (s *suite) in(st snapshotters.Storage, fn func(root string)) {
	s.Helper()
	ms, err := s.d.Create(s.ctx, st)
	s.ok(err)
	s.mounted(ms, fn)
}

func (s *suite) mounted(ms []mount.Mount, fn func(root string)) {
	s.Helper()
	s.ok(mounts.WithTemp(s.ctx, ms, func(root string) error { fn(root); return nil }))
}

// layer makes a committed snapshot of what fn does.
func (s *suite) layer(id string, parents []string, fn func(root string)) {
	s.Helper()
	st := active(id, parents...)
	s.in(st, fn)
	_, err := s.d.Commit(s.ctx, st)
	s.ok(err)
}

func (s *suite) write(path, text string) {
	s.Helper()
	s.ok(os.MkdirAll(filepath.Dir(path), 0o755))
	s.ok(os.WriteFile(path, []byte(text), 0o644))
}

// has checks that a file holds text; no text means that there is no file.
func (s *suite) has(path, text string) {
	s.Helper()
	b, err := os.ReadFile(path)
	switch {
	case text == "" && !os.IsNotExist(err):
		s.Errorf("%s is there: %q %v", path, b, err)
	case text != "" && (err != nil || string(b) != text):
		s.Errorf("%s: %q, %v; want %q", path, b, err, text)
	}
}

func (s *suite) chain() {
	s.layer("one", nil, func(r string) { s.write(r+"/a", "1"); s.write(r+"/d/b", "1") })
	s.layer("two", []string{"one"}, func(r string) { s.has(r+"/a", "1"); s.write(r+"/a", "2"); s.write(r+"/d/c", "2") })
	s.in(view("v", "two", "one"), func(r string) { s.has(r+"/a", "2"); s.has(r+"/d/b", "1"); s.has(r+"/d/c", "2") })
	s.in(view("w", "one"), func(r string) { s.has(r+"/a", "1"); s.has(r+"/d/c", "") })
	s.in(active("x", "two", "one"), func(r string) { s.has(r+"/a", "2"); s.write(r+"/a", "3") })
	s.in(view("y", "two", "one"), func(r string) { s.has(r+"/a", "2") })
	s.in(view("empty"), func(r string) {
		if ents, err := os.ReadDir(r); err != nil || len(ents) != 0 {
			s.Error("a view of nothing holds", ents, err)
		}
	})
}

func (s *suite) deletions() {
	s.layer("one", nil, func(r string) {
		s.write(r+"/d/a", "1")
		s.write(r+"/d/b", "1")
		s.write(r+"/e/old", "1")
		s.write(r+"/f", "1")
	})
	s.layer("two", []string{"one"}, func(r string) {
		s.ok(os.Remove(r + "/d/a"))
		s.ok(os.RemoveAll(r + "/e"))
		s.write(r+"/e/new", "2")
		s.ok(os.Remove(r + "/f"))
		s.ok(os.Symlink("d/b", r+"/f"))
	})
	s.in(active("x", "two", "one"), func(r string) {
		s.has(r+"/d/a", "")
		s.has(r+"/d/b", "1")
		s.has(r+"/e/old", "")
		s.has(r+"/e/new", "2")
		s.has(r+"/f", "1")
	})
}

func (s *suite) siblings() {
	s.layer("base", nil, func(r string) { s.write(r+"/a", "base") })
	for _, id := range []string{"x", "y"} {
		s.in(active(id, "base"), func(r string) { s.has(r+"/a", "base"); s.write(r+"/a", id) })
	}
	for _, id := range []string{"x", "y"} {
		ms, err := s.d.Mounts(s.ctx, active(id, "base"))
		s.ok(err)
		s.mounted(ms, func(r string) { s.has(r+"/a", id) })
	}
}

func (s *suite) views() {
	s.layer("one", nil, func(r string) { s.write(r+"/a", "1") })
	s.layer("two", []string{"one"}, func(r string) { s.write(r+"/b", "1") })
	for _, st := range []snapshotters.Storage{view("v"), view("w", "one"), view("x", "two", "one")} {
		s.in(st, func(r string) {
			if err := os.WriteFile(r+"/new", nil, 0o600); err == nil {
				s.Errorf("view %s can be written", st.ID)
			}
		})
	}
}

func (s *suite) rootMode() {
	s.layer("one", nil, func(r string) { s.ok(os.Chmod(r, 0o751)); s.ok(os.Chown(r, 3, 4)) })
	s.layer("two", []string{"one"}, func(string) {})
	s.in(active("x", "two", "one"), func(r string) {
		var st unix.Stat_t
		s.ok(unix.Stat(r, &st))
		if st.Mode&0o7777 != 0o751 || st.Uid != 3 || st.Gid != 4 {
			s.Errorf("the root is %o %d:%d", st.Mode, st.Uid, st.Gid)
		}
	})
}

func (s *suite) usage() {
	st := active("x")
	s.in(st, func(r string) {
		s.ok(os.WriteFile(r+"/big", make([]byte, 3<<20), 0o600))
		s.ok(os.Link(r+"/big", r+"/same"))
	})
	u, err := s.d.Usage(s.ctx, st)
	s.ok(err)
	if u.Size > 4<<20 || u.Inodes < 1 {
		s.Errorf("usage %+v of one file of 3 MiB with two names", u)
	}
	u, err = s.d.Commit(s.ctx, st)
	s.ok(err)
	if u.Size > 4<<20 || u.Inodes < 2 {
		s.Errorf("committed usage %+v", u)
	}
}

func (s *suite) ids() []string {
	s.Helper()
	ids, err := s.d.List(s.ctx)
	s.ok(err)
	slices.Sort(ids)
	return ids
}

func (s *suite) leftovers() {
	s.layer("done", nil, func(r string) { s.write(r+"/a", "1") })
	s.in(active("left", "done"), func(r string) { s.write(r+"/b/c", "1") })
	if got := s.ids(); !slices.Equal(got, []string{"done", "left"}) {
		s.Errorf("list: %q", got)
	}
	for range 2 { // removing is idempotent
		s.ok(s.d.Remove(s.ctx, "left"))
	}
	s.ok(s.d.Remove(s.ctx, "unknown"))
	if got := s.ids(); !slices.Equal(got, []string{"done"}) {
		s.Errorf("list after removal: %q", got)
	}
	if _, err := s.d.Mounts(s.ctx, active("left", "done")); err == nil {
		s.Error("a removed snapshot has mounts")
	}
}

func (s *suite) badIDs() {
	for _, id := range []string{"", "..", "a/b", "../x", "A"} {
		if _, err := s.d.Create(s.ctx, active(id)); err == nil {
			s.Errorf("Create takes the ID %q", id)
		}
		_ = s.d.Remove(s.ctx, id)
	}
	if got := s.ids(); len(got) != 0 {
		s.Errorf("list: %q", got)
	}
}

func (s *suite) concurrent() {
	s.layer("base", nil, func(r string) { s.write(r+"/a", "base") })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				if err := s.oneLife(fmt.Sprintf("w%d-%d", i, j)); err != nil {
					s.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := s.ids(); !slices.Equal(got, []string{"base"}) {
		s.Errorf("list: %q", got)
	}
}

// oneLife makes, writes, commits, uses and removes a snapshot.
func (s *suite) oneLife(id string) error {
	st := active(id, "base")
	ms, err := s.d.Create(s.ctx, st)
	if err != nil {
		return err
	}
	err = mounts.WithTemp(s.ctx, ms, func(root string) error { return os.WriteFile(root+"/mine", []byte(id), 0o600) })
	if err != nil {
		return err
	}
	if _, err := s.d.Commit(s.ctx, st); err != nil {
		return err
	}
	v := view(id+"-v", id, "base")
	if ms, err = s.d.Create(s.ctx, v); err != nil {
		return err
	}
	err = mounts.WithTemp(s.ctx, ms, func(root string) error {
		if b, err := os.ReadFile(root + "/mine"); err != nil || string(b) != id {
			return fmt.Errorf("%s holds %q: %w", id, b, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.d.Remove(s.ctx, v.ID); err != nil {
		return err
	}
	return s.d.Remove(s.ctx, id)
}

func (s *suite) mountsAgain() {
	s.layer("base", nil, func(r string) { s.write(r+"/a", "base") })
	s.in(active("x", "base"), func(r string) { s.write(r+"/b", "x") })
	for range 3 {
		ms, err := s.d.Mounts(s.ctx, active("x", "base"))
		s.ok(err)
		s.mounted(ms, func(r string) { s.has(r+"/a", "base"); s.has(r+"/b", "x") })
	}
}
