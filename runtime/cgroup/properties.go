package cgroup

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/internal/dbus"
)

// properties translates limits to those of systemd's units (systemd.resource-control(5)).
// What has no property is set in the group's files alone.
type properties struct {
	unified bool
	version int
}

// infinity is systemd's word for no limit.
const infinity = uint64(math.MaxUint64)

func number(v int64) uint64 {
	if v < 0 {
		return infinity
	}
	return uint64(v)
}

// either is a name by the version of cgroups.
func (p *properties) either(v2, v1 string) string {
	if p.unified {
		return v2
	}
	return v1
}

// accounting has systemd enable the controllers.
func (p *properties) accounting() []dbus.Property {
	var out []dbus.Property
	for _, name := range []string{"CPUAccounting", "MemoryAccounting", "TasksAccounting", p.either("IOAccounting", "BlockIOAccounting")} {
		out = append(out, dbus.Property{Name: name, Value: true})
	}
	return out
}

func (p *properties) limits(r *specs.LinuxResources) []dbus.Property {
	if r == nil {
		return nil
	}
	out := slices.Concat(p.memory(r.Memory), p.cpu(r.CPU), p.io(r.BlockIO))
	if r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit != 0 {
		out = append(out, dbus.Property{Name: "TasksMax", Value: number(*r.Pids.Limit)})
	}
	if p.unified {
		out = append(out, p.files(r.Unified)...)
	}
	return out
}

func (p *properties) memory(m *specs.LinuxMemory) []dbus.Property {
	if m == nil {
		return nil
	}
	var out []dbus.Property
	if m.Limit != nil && *m.Limit != 0 {
		out = append(out, dbus.Property{Name: p.either("MemoryMax", "MemoryLimit"), Value: number(*m.Limit)})
	}
	if !p.unified {
		return out
	}
	for _, s := range memoryV2(m) {
		v, err := strconv.ParseUint(s.value, 10, 64)
		if err != nil {
			v = infinity
		}
		switch s.file {
		case "memory.swap.max":
			out = append(out, dbus.Property{Name: "MemorySwapMax", Value: v})
		case "memory.low":
			out = append(out, dbus.Property{Name: "MemoryLow", Value: v})
		}
	}
	return out
}

// cpuGrain is the least step of a quota that systemd keeps: a percent of a
// second, in microseconds.
const cpuGrain = 10_000

func (p *properties) cpu(c *specs.LinuxCPU) []dbus.Property {
	if c == nil {
		return nil
	}
	var out []dbus.Property
	add := func(name string, v any) { out = append(out, dbus.Property{Name: name, Value: v}) }
	if c.Shares != nil && *c.Shares != 0 {
		if p.unified {
			add("CPUWeight", Weight(*c.Shares))
		} else {
			add("CPUShares", min(max(*c.Shares, 2), 262144))
		}
	}
	period := uint64(100_000)
	if c.Period != nil && *c.Period != 0 {
		period = *c.Period
		if p.version >= versionPeriod {
			add("CPUQuotaPeriodUSec", period)
		}
	}
	if c.Quota != nil && *c.Quota != 0 {
		share := infinity
		if *c.Quota > 0 {
			// Rounded up: the exact value goes to the file.
			share = (uint64(*c.Quota)*1_000_000/period + cpuGrain - 1) / cpuGrain * cpuGrain
		}
		add("CPUQuotaPerSecUSec", share)
	}
	if p.unified && p.version >= versionSets {
		out = append(out, bitmaps(c.Cpus, c.Mems)...)
	}
	return out
}

// bitmaps are processors and memory nodes, one bit each.
func bitmaps(cpus, mems string) []dbus.Property {
	var out []dbus.Property
	for _, s := range []struct{ name, list string }{{"AllowedCPUs", cpus}, {"AllowedMemoryNodes", mems}} {
		if bits := bitmap(s.list); len(bits) > 0 {
			out = append(out, dbus.Property{Name: s.name, Value: bits})
		}
	}
	return out
}

// maxBit bounds processors and nodes.
const maxBit = 8192

// bitmap reads "0-3,8", nil if it is no such list: the kernel then says so.
func bitmap(list string) []byte {
	var out []byte
	for part := range strings.SplitSeq(list, ",") {
		lo, hi, ok := strings.Cut(strings.TrimSpace(part), "-")
		if !ok {
			hi = lo
		}
		a, errA := strconv.ParseUint(lo, 10, 16)
		b, errB := strconv.ParseUint(hi, 10, 16)
		if errA != nil || errB != nil || a > b || b >= maxBit {
			return nil
		}
		for n := a; n <= b; n++ {
			for uint64(len(out)) <= n/8 {
				out = append(out, 0)
			}
			out[n/8] |= 1 << (n % 8)
		}
	}
	return out
}

func (p *properties) io(b *specs.LinuxBlockIO) []dbus.Property {
	if b == nil || !p.unified {
		return nil
	}
	var out []dbus.Property
	if b.Weight != nil && *b.Weight != 0 {
		out = append(out, dbus.Property{Name: "IOWeight", Value: ioWeight(*b.Weight)})
	}
	for _, t := range []struct {
		name string
		list []specs.LinuxThrottleDevice
	}{
		{"IOReadBandwidthMax", b.ThrottleReadBpsDevice}, {"IOWriteBandwidthMax", b.ThrottleWriteBpsDevice},
		{"IOReadIOPSMax", b.ThrottleReadIOPSDevice}, {"IOWriteIOPSMax", b.ThrottleWriteIOPSDevice},
	} {
		var amounts []dbus.Amount
		for _, d := range t.list {
			if d.Rate != 0 {
				amounts = append(amounts, dbus.Amount{Key: fmt.Sprintf("/dev/block/%d:%d", d.Major, d.Minor), Value: d.Rate})
			}
		}
		if len(amounts) > 0 {
			out = append(out, dbus.Property{Name: t.name, Value: amounts})
		}
	}
	return out
}

// unitFiles are the properties that a file of version 2 stands for.
var unitFiles = map[string]string{
	"memory.min": "MemoryMin", "memory.low": "MemoryLow", "memory.high": "MemoryHigh", "memory.max": "MemoryMax",
	"memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax", "cpu.weight": "CPUWeight",
}

// files translates values that are given by file.
func (p *properties) files(unified map[string]string) []dbus.Property {
	var out []dbus.Property
	for file, text := range unified {
		text = strings.TrimSpace(text)
		name, known := unitFiles[file]
		v, err := strconv.ParseUint(text, 10, 64)
		switch {
		case known && text == "max":
			out = append(out, dbus.Property{Name: name, Value: infinity})
		case known && err == nil:
			out = append(out, dbus.Property{Name: name, Value: v})
		case file == "cpu.max":
			out = append(out, p.cpu(cpuMax(text))...)
		case file == "cpuset.cpus" && p.version >= versionSets:
			out = append(out, bitmaps(text, "")...)
		case file == "cpuset.mems" && p.version >= versionSets:
			out = append(out, bitmaps("", text)...)
		}
	}
	return out
}

// cpuMax reads "quota [period]".
func cpuMax(text string) *specs.LinuxCPU {
	f := strings.Fields(text)
	if len(f) == 0 {
		return nil
	}
	c := &specs.LinuxCPU{}
	quota, err := strconv.ParseInt(f[0], 10, 64)
	if f[0] == "max" {
		quota, err = -1, nil
	}
	if err == nil {
		c.Quota = &quota
	}
	if len(f) > 1 {
		if period, err := strconv.ParseUint(f[1], 10, 64); err == nil {
			c.Period = &period
		}
	}
	return c
}

// devices are rules for version 1, where systemd writes its own list whenever it
// is reloaded. On version 2 our program stays, and one more could only deny more.
func (p *properties) devices(own []specs.LinuxDeviceCgroup) []dbus.Property {
	if p.unified {
		return nil
	}
	rules, open := deviceRules(own)
	policy, allow := "strict", []dbus.Pair{}
	if open {
		policy, rules = "auto", nil
	}
	for _, d := range rules {
		if path := unitDevice(d); path != "" && d.Allow {
			access := d.Access
			if access == "" {
				access = "rwm"
			}
			allow = append(allow, dbus.Pair{path, access})
		}
	}
	list := []dbus.Property{{Name: "DevicePolicy", Value: policy}, {Name: "DeviceAllow", Value: []dbus.Pair{}}} // empties it
	if len(allow) > 0 {
		list = append(list, dbus.Property{Name: "DeviceAllow", Value: allow})
	}
	return list
}

// unitDevice is a device, or a class of them, in the words of DeviceAllow; empty
// if it has none for it.
func unitDevice(d specs.LinuxDeviceCgroup) string {
	kind, ok := map[string]string{"c": "char", "b": "block"}[d.Type]
	major, minor := int64(-1), int64(-1)
	if d.Major != nil {
		major = *d.Major
	}
	if d.Minor != nil {
		minor = *d.Minor
	}
	switch {
	case !ok || major < 0 && minor >= 0:
		return ""
	case major < 0:
		return kind + "-*"
	case minor < 0:
		if name := driverOf(kind, major); name != "" {
			return kind + "-" + name
		}
		return ""
	}
	return fmt.Sprintf("/dev/%s/%d:%d", kind, major, minor)
}

// driverOf finds the name of a major number in /proc/devices.
func driverOf(kind string, major int64) string {
	f, err := os.Open("/proc/devices")
	if err != nil {
		return ""
	}
	defer f.Close()
	section := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.Fields(s.Text())
		switch {
		case len(line) == 2 && line[1] == "devices:":
			section = strings.ToLower(strings.TrimSuffix(line[0], "acter"))
		case len(line) == 2 && section == kind && line[0] == strconv.FormatInt(major, 10):
			return line[1]
		}
	}
	return ""
}
