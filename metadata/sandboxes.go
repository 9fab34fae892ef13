package metadata

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/core/sandbox"
)

// sandboxRecord is a sandbox as stored.
type sandboxRecord struct {
	sandbox.Sandbox
	RuntimeOptions *anyRecord            `json:",omitempty"`
	StoredSpec     *anyRecord            `json:",omitempty"`
	StoredExt      map[string]*anyRecord `json:",omitempty"`
}

var sandboxTable = table[sandboxRecord]{name: "sandboxes", noun: "sandbox"}

func storeSandbox(s sandbox.Sandbox) sandboxRecord {
	r := sandboxRecord{Sandbox: s, RuntimeOptions: storeAny(s.Runtime.Options), StoredSpec: storeAny(s.Spec), StoredExt: storeAnys(s.Extensions)}
	r.Sandbox.Runtime.Options, r.Sandbox.Spec, r.Sandbox.Extensions = nil, nil, nil
	return r
}

func (r sandboxRecord) load() sandbox.Sandbox {
	s := r.Sandbox
	s.Runtime.Options, s.Spec, s.Extensions = loadAny(r.RuntimeOptions), loadAny(r.StoredSpec), loadAnys(r.StoredExt)
	return s
}

type sandboxStore struct{ db *DB }

// Sandboxes returns the store of sandboxes.
func (db *DB) Sandboxes() sandbox.Store { return sandboxStore{db} }

func validateSandbox(s sandbox.Sandbox) error {
	if err := namespaces.Validate(s.ID); err != nil {
		return fmt.Errorf("sandbox ID: %w", err)
	}
	return label.Validate(s.Labels)
}

func (st sandboxStore) Create(ctx context.Context, s sandbox.Sandbox) (sandbox.Sandbox, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return s, err
	}
	if err := validateSandbox(s); err != nil {
		return s, err
	}
	s.Created = time.Now().UTC()
	s.Updated = s.Created
	return s, st.db.update(func(t *tx) error {
		t.touch(gc.Node{Type: gc.Sandbox, Namespace: ns, Key: s.ID})
		return sandboxTable.create(t, ns, s.ID, storeSandbox(s))
	})
}

func (st sandboxStore) Update(ctx context.Context, s sandbox.Sandbox, fieldpaths ...string) (sandbox.Sandbox, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return s, err
	}
	var out sandbox.Sandbox
	err = st.db.update(func(t *tx) error {
		rec, err := sandboxTable.get(t, ns, s.ID)
		if err != nil {
			return err
		}
		if out, err = mergeSandbox(rec.load(), s, fieldpaths); err != nil {
			return err
		}
		t.touch(gc.Node{Type: gc.Sandbox, Namespace: ns, Key: s.ID})
		return sandboxTable.put(t, ns, s.ID, storeSandbox(out))
	})
	return out, err
}

func mergeSandbox(old, update sandbox.Sandbox, fieldpaths []string) (sandbox.Sandbox, error) {
	out := old
	labels, other := label.Merge(old.Labels, update.Labels, fieldpaths)
	out.Labels, out.Updated = labels, time.Now().UTC()
	if len(fieldpaths) == 0 {
		other = []string{"extensions", "spec", "runtime"}
	}
	for _, path := range other {
		ext, one := strings.CutPrefix(path, "extensions.")
		switch {
		case path == "extensions":
			out.Extensions = update.Extensions
		case one:
			out.Extensions = mergeAnys(out.Extensions, update.Extensions, ext)
		case path == "spec":
			out.Spec = update.Spec
		case path == "runtime":
			out.Runtime = update.Runtime
		default:
			return out, fmt.Errorf("sandbox %q has no field %q that can be updated: %w", old.ID, path, errdefs.ErrInvalidArgument)
		}
	}
	return out, validateSandbox(out)
}

func (st sandboxStore) Get(ctx context.Context, id string) (sandbox.Sandbox, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return sandbox.Sandbox{}, err
	}
	var rec sandboxRecord
	err = st.db.view(func(t *tx) error {
		rec, err = sandboxTable.get(t, ns, id)
		return err
	})
	return rec.load(), err
}

func (st sandboxStore) List(ctx context.Context, filters ...string) ([]sandbox.Sandbox, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	recs, err := sandboxTable.list(st.db, ns, filters, sandboxField)
	out := make([]sandbox.Sandbox, len(recs))
	for i, r := range recs {
		out[i] = r.load()
	}
	return out, err
}

func sandboxField(r sandboxRecord) filter.Adaptor {
	return func(path []string) (string, bool) {
		switch path[0] {
		case "id":
			return r.ID, true
		case "sandboxer":
			return r.Sandboxer, r.Sandboxer != ""
		case "runtime":
			return r.Runtime.Name, len(path) == 2 && path[1] == "name"
		case "labels":
			return filter.Labels(r.Labels, path[1:])
		}
		return "", false
	}
}

func (st sandboxStore) Delete(ctx context.Context, id string) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	return st.db.update(func(t *tx) error {
		return sandboxTable.remove(t, ns, id)
	})
}
