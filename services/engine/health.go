package engine

import (
	"slices"
	"time"

	api "github.com/moby/moby/api/types/container"
)

// Defaults and bounds of health checks, Docker's.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
	// healthLog is how many results are kept.
	healthLog = 5
	// healthOutput bounds what is kept of a check's output, in bytes.
	healthOutput = 4096
	// shortestHealth bounds times that a check is made with from below.
	shortestHealth = time.Millisecond
)

// Kinds of health checks: the first word of the test.
const (
	healthNone  = "NONE"
	healthArgs  = "CMD"
	healthShell = "CMD-SHELL"
)

// check is how a container's health is checked.
type check struct {
	args                       []string
	interval, timeout          time.Duration
	startPeriod, startInterval time.Duration
	retries                    int
}

// checkOf reads the check of a config; nil if there is none.
func checkOf(c *api.Config) *check {
	h := c.Healthcheck
	if h == nil || len(h.Test) < 2 {
		return nil
	}
	out := &check{startPeriod: h.StartPeriod, interval: or(h.Interval, healthInterval), timeout: or(h.Timeout, healthTimeout),
		startInterval: or(h.StartInterval, healthStartInterval), retries: or(h.Retries, healthRetries)}
	switch h.Test[0] {
	case healthArgs:
		out.args = h.Test[1:]
	case healthShell:
		shell := c.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		out.args = append(slices.Clone(shell), h.Test[1])
	default:
		return nil // NONE
	}
	return out
}

// or is v, or the default if v is zero.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// mergeHealth puts the image's check under the caller's, part by part.
func mergeHealth(own, img *api.HealthConfig) *api.HealthConfig {
	if own == nil || img == nil {
		if own == nil {
			return img
		}
		return own
	}
	out := *own
	if len(out.Test) == 0 {
		out.Test = img.Test
	}
	out.Interval, out.Timeout = or(out.Interval, img.Interval), or(out.Timeout, img.Timeout)
	out.StartPeriod, out.StartInterval = or(out.StartPeriod, img.StartPeriod), or(out.StartInterval, img.StartInterval)
	out.Retries = or(out.Retries, img.Retries)
	return &out
}

// validHealth refuses a check that makes no sense.
func validHealth(h *api.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.value != 0 && d.value < shortestHealth {
			return invalid("%s in Healthcheck cannot be less than %s", d.name, shortestHealth)
		}
	}
	if h.Retries < 0 {
		return invalid("Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) == 0 {
		return nil
	}
	switch kind, n := h.Test[0], len(h.Test)-1; {
	case kind == healthNone && n == 0, kind == healthArgs && n > 0, kind == healthShell && n == 1:
		return nil
	}
	return invalid("invalid Healthcheck test %q: it must be [NONE], [CMD, args...] or [CMD-SHELL, command]", h.Test)
}

// firstHealth is the health of a container that starts; nil if it is not checked.
func firstHealth(c *api.Config, before *api.Health) *api.Health {
	if checkOf(c) == nil {
		return nil
	}
	h := &api.Health{Status: api.Starting, Log: []*api.HealthcheckResult{}}
	if before != nil {
		h.Log = before.Log
	}
	return h
}

// lastHealth is the health of one that has ended: whoever looks for a healthy
// container must not find it.
func lastHealth(h *api.Health) *api.Health {
	if h == nil {
		return nil
	}
	out := *h
	out.Status = api.Unhealthy
	return &out
}

// after is the health after another result. Results are not changed later.
func (k *check) after(h *api.Health, r *api.HealthcheckResult, started time.Time) *api.Health {
	out := &api.Health{Status: h.Status, FailingStreak: h.FailingStreak, Log: append(slices.Clone(h.Log), r)}
	out.Log = out.Log[max(0, len(out.Log)-healthLog):]
	switch {
	case r.ExitCode == 0:
		out.Status, out.FailingStreak = api.Healthy, 0
	case h.Status == api.Starting && r.Start.Sub(started) < k.startPeriod:
		// It may fail yet.
	default:
		if out.FailingStreak++; out.FailingStreak >= k.retries {
			out.Status = api.Unhealthy
		}
	}
	return out
}

// pause is how long to wait between two checks.
func (k *check) pause(status api.HealthStatus, started time.Time) time.Duration {
	if status == api.Starting && time.Since(started) < k.startPeriod {
		return k.startInterval
	}
	return k.interval
}

// healthStatus is the health in one word.
func healthStatus(s State) api.HealthStatus {
	if s.Health == nil {
		return api.NoHealthcheck
	}
	return s.Health.Status
}
