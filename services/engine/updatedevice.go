package engine

import (
	"slices"

	"github.com/moby/moby/api/types/blkiodev"
	api "github.com/moby/moby/api/types/container"
)

// changedDevices puts new limits of single devices over old ones: a list replaces its
// kind's, an empty one takes them away, and nil leaves them.
func changedDevices(old, u *api.Resources) {
	if u.BlkioWeightDevice != nil {
		old.BlkioWeightDevice = u.BlkioWeightDevice
	}
	for _, kind := range []struct {
		to   *[]*blkiodev.ThrottleDevice
		from []*blkiodev.ThrottleDevice
	}{{&old.BlkioDeviceReadBps, u.BlkioDeviceReadBps}, {&old.BlkioDeviceWriteBps, u.BlkioDeviceWriteBps},
		{&old.BlkioDeviceReadIOps, u.BlkioDeviceReadIOps}, {&old.BlkioDeviceWriteIOps, u.BlkioDeviceWriteIOps}} {
		if kind.from != nil {
			*kind.to = kind.from
		}
	}
}

// cleared are the limits of single devices that turn old ones into the next: those
// that are no more are 0, which is none.
func cleared(old, next *api.Resources) *api.Resources {
	gone := func(before, after []*blkiodev.ThrottleDevice) []*blkiodev.ThrottleDevice {
		out := slices.Clone(after)
		for _, d := range before {
			if !slices.ContainsFunc(after, func(x *blkiodev.ThrottleDevice) bool { return x.Path == d.Path }) {
				out = append(out, &blkiodev.ThrottleDevice{Path: d.Path})
			}
		}
		return out
	}
	return &api.Resources{
		BlkioWeightDevice:    next.BlkioWeightDevice,
		BlkioDeviceReadBps:   gone(old.BlkioDeviceReadBps, next.BlkioDeviceReadBps),
		BlkioDeviceWriteBps:  gone(old.BlkioDeviceWriteBps, next.BlkioDeviceWriteBps),
		BlkioDeviceReadIOps:  gone(old.BlkioDeviceReadIOps, next.BlkioDeviceReadIOps),
		BlkioDeviceWriteIOps: gone(old.BlkioDeviceWriteIOps, next.BlkioDeviceWriteIOps),
	}
}
