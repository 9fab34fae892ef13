package builtin

import (
	"errors"
	"fmt"
	"time"

	core "github.com/orlop/orlop/core/registry"
	"github.com/orlop/orlop/services/registry"
	"github.com/orlop/orlop/services/registry/hook"
)

// registryTags chooses tags of repositories.
type registryTags struct {
	// Repositories are patterns: * is any run of characters but slashes, ** any run.
	Repositories []string `toml:"repositories"`
	// Tags are patterns.
	Tags []string `toml:"tags"`
}

func (t registryTags) rule() (out registry.TagRule, err error) {
	if out.Repositories, err = core.ParsePatterns(t.Repositories); err != nil {
		return out, err
	}
	out.Tags, err = core.ParsePatterns(t.Tags)
	return out, err
}

// registryQuota bounds repositories together.
type registryQuota struct {
	// Repositories are patterns.
	Repositories []string `toml:"repositories"`
	// Bytes is how much they may have.
	Bytes int64 `toml:"bytes"`
}

// registryRetention says what is deleted when it is old.
type registryRetention struct {
	// Repositories are patterns.
	Repositories []string `toml:"repositories"`
	// Tags are patterns of the tags that the rule is about.
	Tags []string `toml:"tags"`
	// Keep is how many of these tags stay in each repository, the latest first.
	Keep int `toml:"keep"`
	// Younger is the age up to which they stay in any case, such as 720h.
	Younger string `toml:"younger"`
	// Untagged is the age from which manifests go that no tag leads to; empty is never.
	Untagged string `toml:"untagged"`
}

func (c registryRetention) rule() (out registry.Retention, err error) {
	out.Keep = c.Keep
	if out.TagRule, err = (registryTags{c.Repositories, c.Tags}).rule(); err != nil {
		return out, err
	}
	if out.Younger, err = age(c.Younger); err != nil {
		return out, fmt.Errorf("younger: %w", err)
	}
	if out.Untagged, err = age(c.Untagged); err != nil {
		return out, fmt.Errorf("untagged: %w", err)
	}
	return out, out.Validate()
}

// age reads a time; empty is none.
func age(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	return time.ParseDuration(text)
}

// policy adds the rules to how the registry behaves.
func (c *registryConfig) policy(out *registry.Config) error {
	for i, t := range c.Immutable {
		rule, err := t.rule()
		if err != nil {
			return fmt.Errorf("immutable: rule %d: %w", i+1, err)
		}
		out.Immutable = append(out.Immutable, rule)
	}
	for i, q := range c.Quotas {
		repos, err := core.ParsePatterns(q.Repositories)
		if err == nil && (q.Bytes <= 0 || len(repos) == 0) {
			err = errors.New("it needs repositories and bytes")
		}
		if err != nil {
			return fmt.Errorf("quotas: rule %d: %w", i+1, err)
		}
		out.Quotas = append(out.Quotas, registry.Quota{Repositories: repos, Bytes: q.Bytes})
	}
	for i, r := range c.Retention {
		rule, err := r.rule()
		if err != nil {
			return fmt.Errorf("retention: rule %d: %w", i+1, err)
		}
		out.Retention = append(out.Retention, rule)
	}
	return nil
}

// closers are closed in order.
type closers []interface{ Close() error }

// Close closes all.
func (cs closers) Close() error {
	var errs []error
	for _, c := range cs {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// hooks opens a sender for each webhook.
func (c *registryConfig) hooks(how *registry.Config) (out closers, err error) {
	for i, h := range c.Webhooks {
		s, err := hook.Open(h)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("webhooks: receiver %d: %w", i+1, err), out.Close())
		}
		out = append(out, s)
		how.Listeners = append(how.Listeners, s.Listen)
	}
	return out, nil
}
