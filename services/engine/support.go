package engine

import (
	"slices"

	api "github.com/moby/moby/api/types/container"
)

// unsupported refuses what a container may ask for and the engine can't do: nothing
// that changes what is kept or who may do what is passed over in silence.
func unsupported(c *api.Config, h *api.HostConfig) error {
	for _, f := range slices.Concat(unsupportedConfig(c, h), unsupportedResources(&h.Resources)) {
		if f.given {
			return missing("%s is not available yet", f.name)
		}
	}
	if _, ok := h.Annotations[""]; ok {
		return invalid("invalid Annotations: the empty string is not permitted as an annotation key")
	}
	if !h.Isolation.IsValid() {
		return invalid("invalid isolation %q", h.Isolation)
	}
	if h.Umask != nil && *h.Umask > 0o777 {
		return invalid("invalid umask: %o", *h.Umask)
	}
	if err := api.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return invalid("%v", err)
	}
	if err := checkRestart(h); err != nil {
		return err
	}
	if err := validHealth(c.Healthcheck); err != nil {
		return err
	}
	if err := validLimits(&h.Resources); err != nil {
		return err
	}
	if err := checkDevices(&h.Resources); err != nil {
		return err
	}
	if _, err := layerSize(h); err != nil {
		return err
	}
	for _, o := range []struct {
		ok          bool
		name, value string
	}{
		{h.IpcMode.Valid(), "IPC", string(h.IpcMode)}, {h.PidMode.Valid(), "PID", string(h.PidMode)},
		{h.UTSMode.Valid(), "UTS", string(h.UTSMode)}, {h.UsernsMode.Valid(), "user namespace", string(h.UsernsMode)},
		{h.CgroupnsMode.Valid(), "cgroup namespace", string(h.CgroupnsMode)},
	} {
		if !o.ok {
			return invalid("invalid %s mode: %s", o.name, o.value)
		}
	}
	return nil
}

type field struct {
	given bool
	name  string
}

func unsupportedConfig(c *api.Config, h *api.HostConfig) []field {
	return []field{
		{h.Cgroup != "", "HostConfig.Cgroup"},
	}
}

func unsupportedResources(r *api.Resources) []field {
	return []field{
		{r.CPUCount != 0 || r.CPUPercent != 0 || r.IOMaximumIOps != 0 || r.IOMaximumBandwidth != 0, "a limit of Windows containers"},
	}
}
