package docker

import (
	"slices"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

// creation is a request for a container, in the words of the client's version until
// [creation.modernize].
type creation struct {
	version version
	config  *api.Config
	host    *api.HostConfig
	nets    map[string]*network.EndpointSettings
	// mac is what older clients say of the container and newer ones of a network.
	mac network.HardwareAddr
	// capabilities is a list that version 1.40 alone had.
	capabilities []string
	// legacyCgroups tells that the host's cgroups are those of version 1.
	legacyCgroups bool
	warnings      []string
}

// creation reads the body of a request for a container.
func (c *call) creation(legacyCgroups bool) (*creation, error) {
	var req struct {
		*api.Config
		HostConfig *struct {
			api.HostConfig
			Capabilities []string
		}
		NetworkingConfig *network.NetworkingConfig
		MacAddress       network.HardwareAddr
	}
	if err := c.body(&req, true); err != nil {
		return nil, err
	}
	if req.Config == nil {
		return nil, badRequest("config cannot be empty in order to create a container")
	}
	n := &creation{version: c.version, config: req.Config, host: &api.HostConfig{}, nets: map[string]*network.EndpointSettings{},
		mac: req.MacAddress, legacyCgroups: legacyCgroups}
	if req.HostConfig != nil {
		n.host, n.capabilities = &req.HostConfig.HostConfig, req.HostConfig.Capabilities
	}
	if req.NetworkingConfig != nil {
		for name, s := range req.NetworkingConfig.EndpointsConfig {
			if s == nil {
				s = &network.EndpointSettings{}
			}
			n.nets[name] = s
		}
	}
	return n, n.modernize()
}

// since is what a version of the API changed about requests for containers: what it
// does to those of clients before it.
var since = []struct {
	version version
	before  func(*creation) error
}{
	{40, (*creation).sharedIPC},
	{41, (*creation).hostCgroup},
	{42, (*creation).looseMounts},
	{43, func(n *creation) error { n.host.Annotations = nil; return nil }},
	{startInterval, func(n *creation) error { oldHealth(n.config, n.version); return nil }},
	{deepReadOnly, (*creation).shallowMounts},
	{44, (*creation).oneNetwork},
	{45, (*creation).wholeVolumes},
	{48, (*creation).noImageMounts},
	{48, (*creation).ownSysctls},
	{52, (*creation).ownAddress},
}

// modernize gives the request the meaning it has for the client's version, in the
// words of the newest.
func (n *creation) modernize() error {
	for _, s := range since {
		if n.version < s.version {
			if err := s.before(n); err != nil {
				return err
			}
		}
	}
	if len(n.mac) > 0 && n.version >= 52 {
		return badRequest("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")
	}
	if n.version >= 48 {
		if err := n.refuseSysctls(); err != nil {
			return err
		}
		n.warnDriver()
	}
	n.warnPorts()
	if p := n.host.PidsLimit; p != nil && *p <= 0 {
		n.host.PidsLimit = nil // all of these mean no limit
	}
	return nil
}

// sharedIPC is from when containers' IPC could be joined by default.
func (n *creation) sharedIPC() error {
	if n.host.IpcMode == "" {
		n.host.IpcMode = api.IPCModeShareable
	}
	for i := range n.host.Mounts {
		if b := n.host.Mounts[i].BindOptions; b != nil {
			b.NonRecursive = false
		}
	}
	return nil
}

// hostCgroup is from when containers saw the host's cgroups by default.
func (n *creation) hostCgroup() error {
	if n.host.CgroupnsMode == "" && n.legacyCgroups {
		n.host.CgroupnsMode = api.CgroupnsModeHost
	}
	if len(n.capabilities) > 0 && n.version == 40 {
		return badRequest("HostConfig.Capabilities is not supported: use CapAdd and CapDrop instead")
	}
	return nil
}

// looseMounts is from when a mount's options for other types were passed over.
func (n *creation) looseMounts() error {
	n.host.ConsoleSize = [2]uint{}
	for i := range n.host.Mounts {
		m := &n.host.Mounts[i]
		if m.BindOptions != nil {
			m.BindOptions.CreateMountpoint = false
		}
		if m.Type != mount.TypeVolume {
			m.VolumeOptions = nil
		}
		if m.Type != mount.TypeTmpfs {
			m.TmpfsOptions = nil
		}
	}
	return nil
}

// shallowMounts is from when read-only mounts left what is mounted below writable.
func (n *creation) shallowMounts() error {
	for _, m := range n.host.Mounts {
		if m.Type == mount.TypeBind && m.BindOptions != nil && m.BindOptions.ReadOnlyForceRecursive {
			return badRequest("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
		}
	}
	shallow(n.host, n.version)
	return nil
}

// oneNetwork is from when containers were made with one network, and had one
// hardware address.
func (n *creation) oneNetwork() error {
	if len(n.nets) > 1 {
		var names []string
		for name := range n.nets {
			names = append(names, name)
		}
		slices.Sort(names)
		return badRequest("Container cannot be created with multiple network endpoints: %s", strings.Join(names, ", "))
	}
	for _, s := range n.nets {
		s.MacAddress = nil // which the client can't have meant
	}
	return nil
}

// wholeVolumes is from before parts of volumes could be mounted.
func (n *creation) wholeVolumes() error {
	for _, m := range n.host.Mounts {
		if m.VolumeOptions != nil && m.VolumeOptions.Subpath != "" {
			return badRequest("VolumeOptions.Subpath needs API v1.45 or newer")
		}
	}
	return nil
}

// noImageMounts is from before images could be mounted and networks had priorities.
func (n *creation) noImageMounts() error {
	for _, s := range n.nets {
		s.GwPriority = 0
	}
	for _, m := range n.host.Mounts {
		if m.Type == mount.TypeImage {
			return badRequest(`Mount type "Image" needs API v1.48 or newer`)
		}
	}
	return nil
}

// warnDriver tells of a driver that isn't used.
func (n *creation) warnDriver() {
	if n.host.VolumeDriver == "" {
		return
	}
	for _, m := range n.host.Mounts {
		named := m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil && m.VolumeOptions.DriverConfig.Name != ""
		if m.Type == mount.TypeVolume && !named {
			n.warn("WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead")
			return
		}
	}
}

// warnPorts tells newer clients of lists without a binding, which mean one.
func (n *creation) warnPorts() {
	var empty []string
	for p, bindings := range n.host.PortBindings {
		if len(bindings) == 0 {
			n.host.PortBindings[p] = []network.PortBinding{{}}
			empty = append(empty, p.String())
		}
	}
	if len(empty) > 0 && n.version >= 52 {
		slices.Sort(empty)
		n.warn("Following container port(s) have an empty list of port-bindings: " + strings.Join(empty, ", ") + ". Such bindings will be discarded in a future version.")
	}
}

func (n *creation) warn(text string) { n.warnings = append(n.warnings, text) }
