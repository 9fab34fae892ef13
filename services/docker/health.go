package docker

import (
	api "github.com/moby/moby/api/types/container"
)

// healthNote is what a container's health adds to its state, as people read it.
func healthNote(h *api.Health) string {
	switch {
	case h == nil:
		return ""
	case h.Status == api.Starting:
		return " (health: starting)"
	}
	return " (" + string(h.Status) + ")"
}

// healthSummary is a container's health in lists.
func healthSummary(h *api.Health) *api.HealthSummary {
	if h == nil {
		return &api.HealthSummary{Status: api.NoHealthcheck}
	}
	return &api.HealthSummary{Status: h.Status, FailingStreak: h.FailingStreak}
}

// oldHealth takes away what clients before [startInterval] can't have meant.
func oldHealth(c *api.Config, v version) {
	if v < startInterval && c != nil && c.Healthcheck != nil {
		c.Healthcheck.StartInterval = 0
	}
}
