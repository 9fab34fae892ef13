package engine

import (
	"context"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Filters choose among things, by kind of filter: values of one kind are
// alternatives, but for labels, which all must be there.
type Filters map[string][]string

// anyPlatform means the host's platform, or whatever there is.
var anyPlatform ocispec.Platform

func (f Filters) has(key string) bool { return len(f[key]) > 0 }

// Known refuses kinds of filters that aren't among those given.
func (f Filters) Known(kinds ...string) error {
	var bad []string
	for key := range f {
		if !slices.Contains(kinds, key) {
			bad = append(bad, key)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	sort.Strings(bad)
	return invalid("invalid filter '%s'", bad[0])
}

// is tells whether a value is among those wanted, or none is.
func (f Filters) is(key string, values ...string) bool {
	if !f.has(key) {
		return true
	}
	return slices.ContainsFunc(values, func(v string) bool { return slices.Contains(f[key], v) })
}

// Bool reads a filter that is true or false.
func (f Filters) Bool(key string) (value, given bool, err error) {
	if !f.has(key) {
		return false, false, nil
	}
	if value, err = strconv.ParseBool(f[key][0]); err != nil {
		return false, true, invalid("invalid filter '%s=%s'", key, f[key][0])
	}
	return value, true, nil
}

// labels tells whether labels fit: key, key=value, and label!.
func (f Filters) labels(have map[string]string) bool {
	fits := func(want string) bool {
		key, value, valued := strings.Cut(want, "=")
		v, ok := have[key]
		return ok && (!valued || v == value)
	}
	return !slices.ContainsFunc(f["label"], func(w string) bool { return !fits(w) }) && !slices.ContainsFunc(f["label!"], fits)
}

// matches tells whether a value fits one of the expressions wanted.
func (f Filters) matches(key string, values ...string) bool {
	if !f.has(key) {
		return true
	}
	for _, want := range f[key] {
		re, err := regexp.Compile(want)
		for _, v := range values {
			if err == nil && re.MatchString(v) || err != nil && strings.Contains(v, want) {
				return true
			}
		}
	}
	return false
}

// until reads a filter that is a time or how long ago it was.
func (f Filters) until() (time.Time, error) {
	if !f.has("until") {
		return time.Time{}, nil
	}
	return ParseTime(f["until"][0])
}

// ParseTime reads a time as Docker's clients send it: seconds since 1970 with an
// optional fraction, RFC 3339, or a duration that has passed since. Empty is zero.
func ParseTime(text string) (time.Time, error) {
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	whole, fraction, _ := strings.Cut(text, ".")
	if sec, err := strconv.ParseInt(whole, 10, 64); err == nil {
		fraction = (fraction + "000000000")[:9]
		nano, err := strconv.ParseInt(fraction, 10, 64)
		if err != nil {
			return time.Time{}, invalid("invalid time %q", text)
		}
		return time.Unix(sec, nano), nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, invalid("invalid time %q", text)
}

// ListOptions choose containers.
type ListOptions struct {
	// All lists those that don't run, too; Limit the newest only, if above 0.
	All     bool
	Limit   int
	Filters Filters
}

// List returns containers, the newest first.
func (e *Engine) List(ctx context.Context, o ListOptions) ([]View, error) {
	f := o.Filters
	err := f.Known("ancestor", "before", "exited", "health", "id", "is-task", "label", "name", "network", "since", "status", "volume")
	if err != nil {
		return nil, err
	}
	bounds, err := e.listBounds(ctx, f)
	if err != nil {
		return nil, err
	}
	out := []View{}
	every := o.All || o.Limit > 0 || f.has("status") || f.has("exited")
	for _, v := range e.some(func(s State) bool { return every || s.Running || s.Restarting }) {
		if !bounds.fit(v) || !f.fitContainer(v) {
			continue
		}
		if out = append(out, v); len(out) == o.Limit {
			break
		}
	}
	e.showLinks(out)
	return out, nil
}

// listBounds are filters that refer to other things.
type listBounds struct {
	before, since time.Time
	images        []string // nil: all
}

func (e *Engine) listBounds(ctx context.Context, f Filters) (b listBounds, err error) {
	for key, at := range map[string]*time.Time{"before": &b.before, "since": &b.since} {
		for _, ref := range f[key] {
			c, err := e.lookup(ref)
			if err != nil {
				return b, err
			}
			*at = e.view(c).Created
		}
	}
	if f.has("ancestor") {
		b.images = []string{}
		for _, ref := range f["ancestor"] {
			if img, err := e.FindImage(ctx, ref); err == nil {
				b.images = append(b.images, img.ID.String())
			}
		}
	}
	for _, s := range f["status"] {
		if !slices.Contains([]string{"created", "running", "paused", "restarting", "removing", "exited", "dead"}, s) {
			return b, invalid("invalid filter 'status=%s'", s)
		}
	}
	for _, s := range f["health"] {
		if err := api.ValidateHealthStatus(api.HealthStatus(s)); err != nil {
			return b, invalid("%v", err)
		}
	}
	for _, s := range f["exited"] {
		if _, err := strconv.Atoi(s); err != nil {
			return b, invalid("invalid filter 'exited=%s'", s)
		}
	}
	return b, nil
}

func (b listBounds) fit(v View) bool {
	return (b.before.IsZero() || v.Created.Before(b.before)) && (b.since.IsZero() || v.Created.After(b.since)) &&
		(b.images == nil || slices.Contains(b.images, v.ImageID))
}

func (f Filters) fitContainer(v View) bool {
	ids := !f.has("id") || slices.ContainsFunc(f["id"], func(p string) bool { return strings.HasPrefix(v.ID, p) })
	exited := !f.has("exited") || v.State.Status() == "exited" && f.is("exited", strconv.Itoa(v.State.ExitCode))
	return ids && exited && f.labels(v.Config.Labels) && f.matches("name", v.Name, "/"+v.Name) &&
		f.is("status", v.State.Status()) && f.fitNetwork(&v) &&
		f.fitMounts(v.Mounts) && f.is("health", string(healthStatus(v.State))) && f.is("is-task", "false")
}

// ListImages returns images that fit.
func (e *Engine) ListImages(ctx context.Context, f Filters) ([]*Details, error) {
	if err := f.Known("before", "dangling", "label", "reference", "since", "until"); err != nil {
		return nil, err
	}
	onlyDangling, given, err := f.Bool("dangling")
	if err != nil {
		return nil, err
	}
	all, err := e.Images(ctx)
	if err != nil {
		return nil, err
	}
	times, err := e.imageBounds(ctx, f)
	if err != nil {
		return nil, err
	}
	out := []*Details{}
	for _, img := range all {
		if given && onlyDangling != (len(img.Names) == 0) {
			continue
		}
		if f.has("reference") {
			if img.Names = img.matching(f["reference"]); len(img.Names) == 0 {
				continue
			}
		}
		d, err := e.Details(ctx, img, anyPlatform)
		if err != nil {
			d = &Details{Image: img} // parts of it are missing
		}
		if f.labels(d.Config.Config.Labels) && times.fitTime(d.Born()) {
			out = append(out, d)
		}
	}
	return out, nil
}

func (e *Engine) imageBounds(ctx context.Context, f Filters) (b listBounds, err error) {
	for _, text := range f["until"] {
		t, err := ParseTime(text)
		if err != nil {
			return b, err
		}
		b.narrow("before", t)
	}
	for _, key := range []string{"before", "since"} {
		for _, ref := range f[key] {
			img, err := e.FindImage(ctx, ref)
			if err != nil {
				return b, err
			}
			d, err := e.Details(ctx, img, anyPlatform)
			if err != nil {
				return b, err
			}
			b.narrow(key, d.Born())
		}
	}
	return b, nil
}

// narrow sets a bound where it leaves less.
func (b *listBounds) narrow(key string, t time.Time) {
	switch {
	case key == "before" && (b.before.IsZero() || t.Before(b.before)):
		b.before = t
	case key == "since" && t.After(b.since):
		b.since = t
	}
}

func (b listBounds) fitTime(t time.Time) bool {
	return (b.before.IsZero() || t.Before(b.before)) && (b.since.IsZero() || t.After(b.since))
}

// Born is when the image was built, or else when it came.
func (d *Details) Born() time.Time {
	if d.Config.Created != nil {
		return *d.Config.Created
	}
	return d.Created
}
