package docker

import (
	"encoding/json"
	"maps"
	"slices"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"
)

// object is fields of JSON that an answer had once.
type object = map[string]any

// withFields is v with fields that it leaves out; those that it has stay. An object in
// fields completes the one in v.
func withFields(v any, fields object) any {
	data, err := json.Marshal(v)
	if err != nil {
		return v
	}
	out := map[string]json.RawMessage{}
	if json.Unmarshal(data, &out) != nil {
		return v
	}
	for key, value := range fields {
		have, there := out[key]
		part, nested := value.(object)
		switch {
		case nested && there:
			value = withFields(have, part)
		case there:
			continue
		}
		if out[key], err = json.Marshal(value); err != nil {
			return v
		}
	}
	return out
}

// oldSummary takes away what clients of older versions didn't find in lists of
// containers.
func oldSummary(s *api.Summary, v version) {
	if v < 46 {
		s.HostConfig.Annotations = nil
	}
	if v < 48 {
		s.ImageManifestDescriptor = nil
	}
	if v < healthInList {
		s.Health = nil
	}
}

// oldUpdate takes away what clients of older versions can't have meant.
func oldUpdate(u *api.UpdateConfig, v version) {
	if v < 40 {
		u.PidsLimit = nil
	}
	if p := u.PidsLimit; p != nil && *p < 0 {
		*p = 0 // both mean no limit
	}
	if v < 55 {
		u.BlkioWeightDevice, u.BlkioDeviceReadBps, u.BlkioDeviceWriteBps, u.BlkioDeviceReadIOps, u.BlkioDeviceWriteIOps = nil, nil, nil, nil, nil
	}
}

// oldInspect gives a container's description what clients of older versions found in
// it.
func oldInspect(r *api.InspectResponse, v version) {
	if v < 48 {
		r.ImageManifestDescriptor = nil
	}
	if v >= 45 || r.NetworkSettings == nil {
		return
	}
	for name, s := range r.NetworkSettings.Networks {
		if !api.NetworkMode(name).IsUserDefined() {
			continue
		}
		s := s.Copy()
		for _, n := range []string{r.ID[:12], r.Config.Hostname} {
			if n != "" && !slices.Contains(s.Aliases, n) {
				s.Aliases = append(s.Aliases, n)
			}
		}
		r.NetworkSettings.Networks[name] = s
	}
}

// infoFor is the description of the daemon in the form of the client's version.
func infoFor(i system.Info, v version) any {
	if v < 44 {
		i.Runtimes = maps.Clone(i.Runtimes)
		for name, r := range i.Runtimes {
			r.Status = nil
			i.Runtimes[name] = r
		}
	}
	if v < 46 {
		i.Containerd = nil
	}
	if v < 49 {
		i.FirewallBackend = nil
	}
	if v < 50 {
		i.DiscoveredDevices = nil
	}
	if v < 53 {
		i.NRI = nil
	}
	out := any(i)
	if v < 47 {
		out = withFields(out, object{"RegistryConfig": object{"AllowNondistributableArtifactsCIDRs": nil, "AllowNondistributableArtifactsHostnames": nil}})
	}
	if v < 49 {
		out = withFields(out, object{"ContainerdCommit": object{"Expected": i.ContainerdCommit.ID}, "RuncCommit": object{"Expected": i.RuncCommit.ID},
			"InitCommit": object{"Expected": i.InitCommit.ID}})
	}
	if v < 50 {
		out = withFields(out, object{"BridgeNfIptables": false, "BridgeNfIp6tables": false})
	}
	return out
}
