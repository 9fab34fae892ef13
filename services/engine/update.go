package engine

import (
	"context"
	"encoding/json"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	api "github.com/moby/moby/api/types/container"
	"google.golang.org/protobuf/types/known/anypb"
)

// Update changes a container's limits, at once if it runs. Zero values leave what is.
func (e *Engine) Update(ctx context.Context, ref string, u api.UpdateConfig) error {
	c, err := e.lookup(ref)
	if err != nil {
		return err
	}
	if err := api.ValidateRestartPolicy(u.RestartPolicy); err != nil {
		return invalid("%v", err)
	}
	if err := fixedResources(&u.Resources); err != nil {
		return err
	}
	for _, f := range unsupportedResources(&u.Resources) {
		if f.given {
			return missing("%s is not available yet", f.name)
		}
	}
	if len(u.Ulimits) > 0 || len(u.Devices) > 0 || u.CgroupParent != "" {
		return invalid("ulimits, devices and the parent cgroup can't be changed")
	}
	c.op.Lock()
	defer c.op.Unlock()
	_, old := c.config()
	next := *old
	changed(&next.Resources, &u.Resources)
	if u.RestartPolicy.Name != "" {
		if next.AutoRemove && !u.RestartPolicy.IsNone() {
			return conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		next.RestartPolicy = u.RestartPolicy
	}
	r := resources(&next.Resources)
	limits, err := r.Limits()
	if err != nil {
		return invalid("%v", err)
	}
	addRealtime(limits, &next.Resources)
	if err := addDeviceLimits(limits, cleared(&old.Resources, &next.Resources)); err != nil {
		return err
	}
	ctx = e.detached(ctx)
	if c.state().Running {
		data, err := json.Marshal(limits)
		if err != nil {
			return err
		}
		req := &wire.UpdateTaskRequest{ID: c.ID, Resources: &anypb.Any{TypeUrl: specType + "LinuxResources", Value: data}}
		if err := e.call(ctx, c.ID, "Update", req); err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.rec.HostConfig = &next
	c.mu.Unlock()
	if err := e.save(ctx, c); err != nil {
		return err
	}
	e.tell(c, "update")
	return nil
}

// changed puts new values over old ones.
func changed(old, u *api.Resources) {
	set := func(to *int64, v int64) {
		if v != 0 {
			*to = v
		}
	}
	set(&old.CPUShares, u.CPUShares)
	set(&old.MemoryReservation, u.MemoryReservation)
	if u.NanoCPUs != 0 {
		old.NanoCPUs, old.CPUPeriod, old.CPUQuota = u.NanoCPUs, 0, 0
	}
	if u.CPUPeriod != 0 || u.CPUQuota != 0 {
		old.NanoCPUs = 0
	}
	set(&old.CPUPeriod, u.CPUPeriod)
	set(&old.CPUQuota, u.CPUQuota)
	set(&old.CPURealtimePeriod, u.CPURealtimePeriod)
	set(&old.CPURealtimeRuntime, u.CPURealtimeRuntime)
	if u.Memory != 0 && u.MemorySwap == 0 && (old.MemorySwap == 2*old.Memory || old.MemorySwap == 0) {
		old.MemorySwap = 2 * u.Memory // it was, and stays, what follows from the memory
	}
	set(&old.Memory, u.Memory)
	set(&old.MemorySwap, u.MemorySwap)
	if u.BlkioWeight != 0 {
		old.BlkioWeight = u.BlkioWeight
	}
	if u.CpusetCpus != "" {
		old.CpusetCpus = u.CpusetCpus
	}
	if u.CpusetMems != "" {
		old.CpusetMems = u.CpusetMems
	}
	changedDevices(old, u)
	if u.PidsLimit != nil {
		old.PidsLimit = u.PidsLimit
	}
}
