package docker

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/orlop/orlop/services/engine"
)

func humanDuration(d time.Duration) string { return units.HumanDuration(max(d, 0)) }

// command is what a container runs, in two parts.
func command(v engine.View) (path string, args []string) {
	all := append(append([]string{}, v.Config.Entrypoint...), v.Config.Cmd...)
	if len(all) == 0 {
		return "", []string{}
	}
	return all[0], all[1:]
}

func encodeContainer(v engine.View) api.Summary {
	path, args := command(v)
	sum := api.Summary{
		ID: v.ID, Names: []string{"/" + v.Name}, Image: v.Config.Image, ImageID: v.ImageID, Created: v.Created.Unix(),
		Command: strings.Join(append([]string{path}, args...), " "), Ports: portSummaries(v), Labels: v.Config.Labels,
		State: api.ContainerState(v.State.Status()), Status: ago(v.State), Mounts: mountPoints(v),
		NetworkSettings: &api.NetworkSettingsSummary{Networks: v.Networks}, ImageManifestDescriptor: v.Manifest,
	}
	for _, alias := range v.LinkedAs {
		sum.Names = append(sum.Names, "/"+alias)
	}
	sum.HostConfig.NetworkMode = string(v.HostConfig.NetworkMode)
	sum.HostConfig.Annotations = v.HostConfig.Annotations
	return sum
}

// stamp is a time as inspect shows it; one that never was is the year 1.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func encodeState(s engine.State) *api.State {
	return &api.State{
		Status: api.ContainerState(s.Status()), Running: s.Running || s.Restarting, Restarting: s.Restarting, Paused: s.Paused, OOMKilled: s.OOMKilled, Pid: s.PID,
		ExitCode: s.ExitCode, Error: s.Error, StartedAt: stamp(s.StartedAt), FinishedAt: stamp(s.FinishedAt), Health: s.Health,
	}
}

func encodeInspect(v engine.View) api.InspectResponse {
	path, args := command(v)
	return api.InspectResponse{
		ID: v.ID, Created: stamp(v.Created), Path: path, Args: args, State: encodeState(v.State), Image: v.ImageID, Name: "/" + v.Name,
		ResolvConfPath: filepath.Join(v.Folder, "resolv.conf"), HostnamePath: filepath.Join(v.Folder, "hostname"),
		HostsPath: filepath.Join(v.Folder, "hosts"), LogPath: v.LogPath, RestartCount: v.Restarts, Driver: v.Snapshotter, Platform: "linux",
		ExecIDs: v.ExecIDs, HostConfig: shownHost(v), ImageManifestDescriptor: v.Manifest, Config: v.Config, Mounts: mountPoints(v),
		Storage:         &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: v.Snapshotter}}},
		NetworkSettings: &api.NetworkSettings{SandboxID: sandboxID(v), SandboxKey: v.SandboxKey, Ports: v.Ports, Networks: v.Networks},
	}
}

// shownHost is a container's host config with what follows from it.
func shownHost(v engine.View) *api.HostConfig {
	h := *v.HostConfig
	if !h.Privileged && !slices.Contains(h.SecurityOpt, "systempaths=unconfined") {
		masked, readOnly := engine.MaskedPaths()
		if h.MaskedPaths == nil {
			h.MaskedPaths = masked
		}
		if h.ReadonlyPaths == nil {
			h.ReadonlyPaths = readOnly
		}
	}
	h.Links = nil
	for _, text := range v.HostConfig.Links {
		target, alias := engine.SplitLink(text)
		h.Links = append(h.Links, "/"+target+":/"+v.Name+"/"+alias)
	}
	return &h
}

// legacyNetwork is what clients before [plainNetwork] look for beside the networks.
type legacyNetwork struct {
	*api.NetworkSettings
	Bridge, EndpointID, Gateway, GlobalIPv6Address, IPAddress, IPv6Gateway, MacAddress, LinkLocalIPv6Address string
	HairpinMode                                                                                              bool
	GlobalIPv6PrefixLen, IPPrefixLen, LinkLocalIPv6PrefixLen                                                 int
	SecondaryIPAddresses, SecondaryIPv6Addresses                                                             []string
}

type legacyInspect struct {
	api.InspectResponse
	NetworkSettings legacyNetwork
}

// forVersion is a container's description in the form of the client's version.
func forVersion(r api.InspectResponse, v engine.View, version version) any {
	oldInspect(&r, version)
	if version >= plainNetwork {
		return r
	}
	r.Storage = nil
	r.GraphDriver = &storage.DriverData{Name: v.Snapshotter, Data: map[string]string{}}
	out := legacyInspect{InspectResponse: r, NetworkSettings: legacyNetwork{NetworkSettings: r.NetworkSettings}}
	out.NetworkSettings.fill(r.NetworkSettings.Networks[network.NetworkBridge])
	if len(v.MAC) > 0 {
		return withFields(out, object{"Config": object{"MacAddress": v.MAC}})
	}
	return out
}

func encodeSample(v engine.View, s, before engine.Sample) api.StatsResponse {
	out := api.StatsResponse{
		ID: v.ID, Name: "/" + v.Name, OSType: "linux", Read: s.Time, PreRead: before.Time, CPUStats: encodeCPU(s), PreCPUStats: encodeCPU(before),
		MemoryStats: api.MemoryStats{Usage: s.Memory, MaxUsage: s.MemoryMax, Limit: s.MemoryLimit, Failcnt: s.MemoryFailures, Stats: s.MemoryStats},
		PidsStats:   api.PidsStats{Current: s.PIDs, Limit: s.PIDsLimit},
	}
	for _, n := range s.Networks {
		if out.Networks == nil {
			out.Networks = map[string]api.NetworkStats{}
		}
		out.Networks[n.Interface] = api.NetworkStats{RxBytes: n.RxBytes, RxPackets: n.RxPackets, RxErrors: n.RxErrors, RxDropped: n.RxDropped,
			TxBytes: n.TxBytes, TxPackets: n.TxPackets, TxErrors: n.TxErrors, TxDropped: n.TxDropped}
	}
	out.BlkioStats.IoServiceBytesRecursive = []api.BlkioStatEntry{}
	for _, io := range s.IO {
		out.BlkioStats.IoServiceBytesRecursive = append(out.BlkioStats.IoServiceBytesRecursive,
			api.BlkioStatEntry{Major: io.Major, Minor: io.Minor, Op: io.Op, Value: io.Bytes})
	}
	return out
}

func encodeCPU(s engine.Sample) api.CPUStats {
	return api.CPUStats{
		CPUUsage:    api.CPUUsage{TotalUsage: s.CPU, PercpuUsage: s.PerCPU, UsageInKernelmode: s.CPUKernel, UsageInUsermode: s.CPUUser},
		SystemUsage: s.System, OnlineCPUs: s.OnlineCPUs,
		ThrottlingData: api.ThrottlingData{Periods: s.Periods, ThrottledPeriods: s.Throttled, ThrottledTime: s.ThrottledTime},
	}
}
