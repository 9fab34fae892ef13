package engine

import (
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// cdiDriver is how clients call devices that are described by files of the Container
// Device Interface: vendor.com/class=name.
const cdiDriver = "cdi"

// CDIDirs are the folders in which devices are described.
func (e *Engine) CDIDirs() []string { return e.Config.CDISpecDirs }

// CDIDevices are the names of the devices that are described.
func (e *Engine) CDIDevices() []string {
	cache, err := cdi.NewCache(cdi.WithSpecDirs(e.Config.CDISpecDirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil
	}
	return cache.ListDevices()
}

// checkDevices refuses requests that can't be met: of other drivers, and names that are none.
func checkDevices(r *api.Resources) error {
	for _, d := range r.DeviceRequests {
		if d.Driver != cdiDriver {
			return missing("HostConfig.DeviceRequests: devices of driver %q with capabilities %v: only those of CDI (--device vendor.com/class=name) are available", d.Driver, d.Capabilities)
		}
		if len(d.Options) > 0 || len(d.Capabilities) > 0 || d.Count != 0 && d.Count != len(d.DeviceIDs) {
			return invalid("HostConfig.DeviceRequests: CDI devices have neither options, capabilities nor a count")
		}
		for _, id := range d.DeviceIDs {
			if !parser.IsQualifiedName(id) {
				return invalid("HostConfig.DeviceRequests: %q is no name of a CDI device such as vendor.com/class=name", id)
			}
		}
	}
	return nil
}

// addDevices changes a spec as the descriptions of the devices say that it wants. The
// files are read anew for each start: devices come and go.
func (e *Engine) addDevices(s *specs.Spec, r *api.Resources) error {
	var names []string
	for _, d := range r.DeviceRequests {
		names = append(names, d.DeviceIDs...)
	}
	if len(names) == 0 {
		return nil
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(e.Config.CDISpecDirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return err
	}
	unknown, err := cache.InjectDevices(s, names...)
	if len(unknown) > 0 {
		return invalid("CDI device injection failed: unresolvable CDI devices %s", strings.Join(unknown, ", "))
	}
	if err != nil {
		return invalid("CDI device injection failed: %v", err)
	}
	return nil
}
