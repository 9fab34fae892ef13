package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/core/registry"
)

// Retention removes what is old from the repositories that it chooses. The first rule
// that chooses a tag decides about it.
type Retention struct {
	// TagRule chooses; tags that are immutable stay in any case.
	TagRule
	// Keep is how many of the chosen tags stay in each repository, the latest first.
	Keep int
	// Younger is the age up to which chosen tags stay, however many.
	Younger time.Duration
	// Untagged is the age from which manifests go that no tag leads to; 0 is never.
	Untagged time.Duration
}

// Validate checks that a rule says what stays: one that doesn't would remove all.
func (r Retention) Validate() error {
	switch {
	case len(r.Repositories) == 0:
		return errors.New("a retention rule needs repositories")
	case r.Keep < 0 || r.Younger < 0 || r.Untagged < 0:
		return errors.New("a retention rule's numbers can't be negative")
	case len(r.Tags) > 0 && r.Keep == 0 && r.Younger == 0:
		return errors.New("a retention rule for tags needs keep or younger")
	case len(r.Tags) == 0 && r.Untagged == 0:
		return errors.New("a retention rule needs tags or untagged")
	}
	return nil
}

// Removal is something that went, or would go.
type Removal struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest"`
	Why        string        `json:"why"`
}

// maxRemovals bounds what goes at once.
const maxRemovals = 10_000

// retain applies the rules, or only tells what they would remove.
func (r *Registry) retain(ctx context.Context, dry bool) ([]Removal, error) {
	if len(r.cfg.Retention) == 0 {
		return nil, nil
	}
	var out []Removal
	for after := ""; len(out) < maxRemovals; {
		repos, err := r.Catalog.Repositories(ctx, registry.Page{After: after, N: maxPage})
		if err != nil {
			return out, err
		}
		for _, repo := range repos {
			gone, err := r.retainIn(ctx, repo, dry)
			if out = append(out, gone...); err != nil && !errdefs.IsNotFound(err) {
				return out, fmt.Errorf("repository %s: %w", repo, err)
			}
		}
		if len(repos) < maxPage {
			break
		}
		after = repos[len(repos)-1]
	}
	return out, nil
}

func (r *Registry) retainIn(ctx context.Context, repo string, dry bool) ([]Removal, error) {
	var out []Removal
	tags, err := r.Catalog.Tags(ctx, repo, registry.Page{})
	if err != nil {
		return nil, err
	}
	for _, old := range r.outdated(repo, tags) {
		gone := dry
		if !dry {
			if gone, err = r.Catalog.RetireTag(ctx, repo, old.Tag); err != nil {
				return out, err
			}
		}
		if gone {
			out = append(out, Removal{repo, old.Name, old.Digest, old.why})
		}
	}
	i := slices.IndexFunc(r.cfg.Retention, func(x Retention) bool { return x.Untagged > 0 && x.Repositories.Match(repo) })
	if i < 0 {
		return out, nil
	}
	age := r.cfg.Retention[i].Untagged
	loose, err := r.Catalog.RetireManifests(ctx, repo, time.Now().Add(-age), maxRemovals, dry)
	for _, m := range loose {
		out = append(out, Removal{repo, "", m.Digest, fmt.Sprintf("no tag leads to it, and it is older than %v", age)})
	}
	return out, err
}

// outdatedTag is one that a rule removes.
type outdatedTag struct {
	registry.Tag
	why string
}

// outdated are the tags that the rules remove.
func (r *Registry) outdated(repo string, tags []registry.Tag) (out []outdatedTag) {
	slices.SortStableFunc(tags, func(a, b registry.Tag) int { return b.Updated.Compare(a.Updated) })
	kept := make([]int, len(r.cfg.Retention))
	fixed := r.immutable(repo)
	for _, tag := range tags {
		i := slices.IndexFunc(r.cfg.Retention, func(x Retention) bool { return x.Repositories.Match(repo) && x.Tags.Match(tag.Name) })
		if i < 0 || fixed != nil && fixed(tag.Name) {
			continue
		}
		rule := r.cfg.Retention[i]
		if kept[i]++; kept[i] <= rule.Keep || rule.Younger > 0 && time.Since(tag.Updated) < rule.Younger {
			continue
		}
		out = append(out, outdatedTag{tag, rule.why()})
	}
	return out
}

func (r Retention) why() string {
	switch {
	case r.Keep == 0:
		return fmt.Sprintf("it is older than %v", r.Younger)
	case r.Younger == 0:
		return fmt.Sprintf("it is not among the last %d", r.Keep)
	}
	return fmt.Sprintf("it is not among the last %d and older than %v", r.Keep, r.Younger)
}

// adminPath is where the registry is told to clean up, an extension in the form of the
// spec's section "Extensions".
const adminPath = "/_orlop/gc"

// AdminRepository stands for the registry itself in rights: who may delete from it may
// tell it to clean up.
const AdminRepository = "_orlop"

// collect applies the rules and unlinks what nothing needs, at once. With dry=true it
// only tells what the rules would remove.
func (r *Registry) collect(q *request) error {
	if q.Method != http.MethodPost {
		return fail(http.StatusMethodNotAllowed, codeUnsupported, "%s can't be done here: POST", q.Method)
	}
	who, err := r.auth.Authorize(q.Request, Access{Repository: AdminRepository, Action: Delete})
	if err != nil {
		return err
	}
	record(q.Context()).Who = who.Name
	if r.cfg.ReadOnly {
		return fail(http.StatusMethodNotAllowed, codeUnsupported, "this registry is read-only")
	}
	dry := q.args.Get("dry") == "true"
	ctx := r.in(q.Context())
	out := struct {
		Dry      bool      `json:"dry"`
		Removed  []Removal `json:"removed"`
		Unlinked int       `json:"unlinked"`
	}{Dry: dry}
	if out.Removed, err = r.retain(ctx, dry); err != nil {
		return err
	}
	if out.Removed == nil {
		out.Removed = []Removal{}
	}
	if !dry {
		if out.Unlinked, err = r.Catalog.Expire(ctx, time.Now().Add(-r.cfg.Grace), tidyBatch); err != nil {
			return err
		}
	}
	return q.json(http.StatusOK, "application/json; charset=utf-8", out)
}
