package docker

import (
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/orlop/orlop/services/engine"
)

// routes is the API, a line each.
func routes() []route {
	var all []route
	for _, part := range [][]route{systemRoutes, imageRoutes, containerRoutes, volumeRoutes, archiveRoutes, commitRoutes, checkpointRoutes, buildRoutes, networkRoutes, streamRoutes, absentRoutes, swarmRoutes(), refusedRoutes, registryRoutes, attachRoutes} {
		all = append(all, part...)
	}
	return all
}

var systemRoutes = []route{
	{method: "GET", path: "/_ping", handle: ping},
	{method: "HEAD", path: "/_ping", handle: ping},
	{method: "GET", path: "/version", handle: versions},
	{method: "GET", path: "/info", handle: info},
	{method: "GET", path: "/events", handle: eventStream},
	{method: "GET", path: "/system/df", handle: diskUsage},
	{method: "GET", path: "/plugins", handle: emptyList},
}

// absentRoutes are what is known and not there.
var absentRoutes = []route{
	{method: "GET", path: "/plugins/privileges", handle: absent("plugins")},
}

func absent(what string) handle {
	return func(*Server, *call) error { return notThere("%s: not available yet", what) }
}

func emptyList(_ *Server, c *call) error { return c.send(http.StatusOK, []struct{}{}) }

// ping answers that the daemon lives, with what clients decide by in the headers.
func ping(_ *Server, c *call) error {
	h := c.w.Header()
	h.Set("Builder-Version", "2")
	h.Set("Swarm", "inactive")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if c.r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil
	}
	_, err := c.w.Write([]byte("OK"))
	return ignore(err)
}

// ignore is for errors of writing, of which nobody is left to be told.
func ignore(error) error { return nil }

func versions(s *Server, c *call) error {
	details := map[string]string{
		"ApiVersion": MaxVersion, "MinAPIVersion": MinVersion, "Arch": runtime.GOARCH, "Os": runtime.GOOS,
		"GitCommit": s.info.Revision, "GoVersion": runtime.Version(), "KernelVersion": kernel(), "Experimental": strconv.FormatBool(s.info.Experimental),
	}
	return c.send(http.StatusOK, system.VersionResponse{
		Platform:   system.PlatformInfo{Name: "Orlop"},
		Components: []system.ComponentVersion{{Name: "Engine", Version: s.info.Version, Details: details}},
		Version:    s.info.Version, APIVersion: MaxVersion, MinAPIVersion: MinVersion, Os: runtime.GOOS, Arch: runtime.GOARCH,
		GitCommit: s.info.Revision, GoVersion: runtime.Version(), KernelVersion: kernel(),
	})
}

func kernel() string {
	data, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

func info(s *Server, c *call) error {
	all, err := s.engine.List(c.r.Context(), engine.ListOptions{All: true})
	if err != nil {
		return err
	}
	images, err := s.engine.Images(c.r.Context())
	if err != nil {
		return err
	}
	host := s.engine.Host(c.r.Context())
	out := system.Info{
		ID: s.info.ID, Containers: len(all), Images: len(images), Driver: host.Snapshotter,
		DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
		Plugins:      system.PluginsInfo{Volume: []string{}, Network: s.driverNames(), Authorization: []string{}, Log: engine.LogDrivers()},
		MemoryLimit:  host.Limits, SwapLimit: host.SwapLimit, CPUCfsPeriod: host.Limits, CPUCfsQuota: host.Limits, CPUShares: host.Limits, CPUSet: host.Limits, PidsLimit: host.Limits,
		IPv4Forwarding: host.Forwarding, NFd: -1, NGoroutines: runtime.NumGoroutine(), SystemTime: time.Now().Format(time.RFC3339Nano),
		LoggingDriver: "json-file", CgroupDriver: host.Cgroups, CgroupVersion: host.CgroupVersion,
		KernelVersion: kernel(), OperatingSystem: host.OS, OSType: "linux", Architecture: host.Machine,
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: &registry.ServiceConfig{IndexConfigs: map[string]*registry.IndexInfo{}, InsecureRegistryCIDRs: []netip.Prefix{}, Mirrors: []string{}},
		NCPU: runtime.NumCPU(), MemTotal: int64(host.Memory), GenericResources: []swarm.GenericResource{}, DockerRootDir: s.info.Root,
		Name: host.Name, Labels: []string{}, ServerVersion: s.info.Version, DefaultRuntime: engine.DefaultRuntime,
		Runtimes:           map[string]system.RuntimeWithStatus{engine.DefaultRuntime: {}, "runc": {}, "crun": {}},
		Swarm:              swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		LiveRestoreEnabled: true, Isolation: api.IsolationDefault,
		SecurityOptions: host.Security, CDISpecDirs: s.engine.CDIDirs(), Warnings: []string{},
		Debug: s.info.Debug, DiscoveredDevices: s.devices(), FirewallBackend: s.firewall(),
		Containerd: &system.ContainerdInfo{Address: s.info.Address, Namespaces: system.ContainerdNamespaces{Containers: "default"}},
	}
	for _, v := range all {
		switch {
		case v.State.Paused:
			out.ContainersPaused++
		case v.State.Running, v.State.Restarting:
			out.ContainersRunning++
		default:
			out.ContainersStopped++
		}
	}
	return c.send(http.StatusOK, infoFor(out, c.version))
}

// eventStream sends events as they happen.
func eventStream(s *Server, c *call) error {
	q := engine.EventQuery{}
	var err error
	if q.Since, err = engine.ParseTime(c.query("since")); err != nil {
		return err
	}
	if q.Until, err = engine.ParseTime(c.query("until")); err != nil {
		return err
	}
	if q.Filters, err = c.filters(); err != nil {
		return err
	}
	if err := q.Filters.Known(engine.EventFilters...); err != nil {
		return err
	}
	out := newJSONStream(c)
	out.kind = eventType(c)
	out.begin()
	return ignore(s.engine.Events(c.r.Context(), q, func(ev engine.Event) error {
		if c.version < 46 && ev.Type == "image" && ev.Action == "create" {
			return nil
		}
		return out.write(encodeEvent(ev, c.version))
	}))
}

// legacyEvent has the fields that events had first.
type legacyEvent struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func encodeEvent(ev engine.Event, v version) any {
	m := events.Message{Type: events.Type(ev.Type), Action: events.Action(ev.Action), Scope: "local",
		Actor: events.Actor{ID: ev.ID, Attributes: ev.Attributes}, Time: ev.Time.Unix(), TimeNano: ev.Time.UnixNano()}
	if v >= plainEvents {
		return m
	}
	return legacyEvent{Status: ev.Action, ID: ev.ID, From: ev.Attributes["image"], Message: m}
}
