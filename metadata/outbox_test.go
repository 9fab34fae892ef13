package metadata

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/core/registry"
)

func outboxOf(t *testing.T) (*DB, registry.Outbox) {
	t.Helper()
	blobs, err := local.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(filepath.Join(t.TempDir(), "meta.db"), DefaultConfig(), Backends{Content: blobs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	o := db.Outbox()
	if err := o.Route([]string{"a", "b"}, func(repo, _ string) []string { return []string{repo} }); err != nil {
		t.Fatal(err)
	}
	return db, o
}

func change(t *testing.T, db *DB, repo string, refs ...string) {
	t.Helper()
	if err := db.update(func(t *tx) error { return db.tell(t, repo, refs...) }); err != nil {
		t.Fatal(err)
	}
}

func (o outbox) must(t *testing.T, queue string) ([]registry.Errand, registry.Waiting) {
	t.Helper()
	due, err := o.Due(context.Background(), queue, time.Now(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	w, err := o.Waiting(context.Background(), queue)
	if err != nil {
		t.Fatal(err)
	}
	return due, w
}

func TestOutbox(t *testing.T) {
	ctx := context.Background()
	db, box := outboxOf(t)
	o := box.(outbox)
	change(t, db, "a", "1", "2")
	change(t, db, "a", "1")
	change(t, db, "b", "1")
	due, w := o.must(t, "a")
	if len(due) != 2 || due[0].Reference != "2" || due[1].Reference != "1" || w.Errands != 2 || !w.Survey {
		t.Fatalf("due %+v, waiting %+v", due, w)
	}
	// One that changes while it is done stays; one that failed waits for its time.
	change(t, db, "a", "2")
	if err := o.Done(ctx, "a", due[0]); err != nil {
		t.Fatal(err)
	}
	late := due[1]
	late.Tries, late.Next, late.Error = 1, time.Now().Add(time.Hour), "no"
	if err := o.Failed(ctx, "a", late); err != nil {
		t.Fatal(err)
	}
	due, w = o.must(t, "a")
	if len(due) != 1 || due[0].Reference != "2" || w.Errands != 2 || w.Failing != 1 || w.Error != "no" {
		t.Fatalf("due %+v, waiting %+v", due, w)
	}
	change(t, db, "a", "1") // a change is a reason to try at once
	for due, _ = o.must(t, "a"); len(due) > 0; due = due[1:] {
		if due[0].Tries != 0 {
			t.Errorf("%+v was changed and isn't new", due[0])
		}
		if err := o.Done(ctx, "a", due[0]); err != nil {
			t.Fatal(err)
		}
	}
	if _, w = o.must(t, "a"); w.Errands != 0 {
		t.Errorf("waiting %+v, want none", w)
	}
	if err := o.Route([]string{"a"}, func(string, string) []string { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Waiting(ctx, "b"); err == nil {
		t.Error("a queue that is gone is still there")
	}
}

// A queue that is full asks for a survey instead, which one that was begun doesn't end.
func TestOutboxFull(t *testing.T) {
	ctx := context.Background()
	db, box := outboxOf(t)
	o := box.(outbox)
	if err := o.Surveyed(ctx, "a", registry.Step{After: "m"}); err != nil {
		t.Fatal(err)
	}
	refs := make([]string, registry.MaxErrands+5)
	for i := range refs {
		refs[i] = fmt.Sprint(i)
	}
	change(t, db, "a", refs...)
	_, w := o.must(t, "a")
	if w.Errands != registry.MaxErrands || !w.Survey || w.After != "" {
		t.Fatalf("waiting %+v", w)
	}
	if err := o.Surveyed(ctx, "a", registry.Step{From: "m", Done: true}); err != nil {
		t.Fatal(err)
	}
	if _, w = o.must(t, "a"); !w.Survey {
		t.Error("the old survey has ended the new one")
	}
	if err := o.Surveyed(ctx, "a", registry.Step{Done: true}); err != nil {
		t.Fatal(err)
	}
	if _, w = o.must(t, "a"); w.Survey {
		t.Error("the survey doesn't end")
	}
}
