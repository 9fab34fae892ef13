package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setting is one value for one file. A soft one is a preference: where the
// kernel doesn't offer it, a warning is enough.
type setting struct {
	controller, file, value string
	soft                    bool
}

// Apply sets limits. It returns what could not be had but was not essential.
func (g *Group) Apply(r *specs.LinuxResources) (warnings []string, err error) {
	if r == nil {
		return nil, nil
	}
	if g.Unit != "" {
		if err := g.setUnit(r); err != nil {
			return nil, err
		}
	}
	return g.applyFiles(r)
}

// applyFiles sets limits in the group's files.
func (g *Group) applyFiles(r *specs.LinuxResources) (warnings []string, err error) {
	if g.Unified {
		return g.applyV2(r)
	}
	for _, s := range g.memoryV1(r.Memory) {
		if err := g.set(s, &warnings); err != nil {
			return warnings, err
		}
	}
	for _, s := range settingsV1(r) {
		if err := g.set(s, &warnings); err != nil {
			return warnings, err
		}
	}
	for file, value := range r.Unified {
		if g.V2 == "" || strings.Contains(file, "/") {
			return warnings, fmt.Errorf("unified resource %q: %w", file, ErrController)
		}
		if err := write(filepath.Join(g.V2, file), value); err != nil {
			return warnings, err
		}
	}
	return warnings, nil
}

func (g *Group) set(s setting, warnings *[]string) error {
	dir, ok := g.dir(s.controller)
	var err error
	if ok {
		err = write(filepath.Join(dir, s.file), s.value)
		// Shares and weights outside the kernel's range are clamped by it.
	} else {
		err = fmt.Errorf("%s: %w", s.controller, ErrController)
	}
	if err == nil {
		return nil
	}
	if s.soft && (errors.Is(err, ErrController) || errors.Is(err, os.ErrNotExist) ||
		errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EOPNOTSUPP)) {
		*warnings = append(*warnings, err.Error())
		return nil
	}
	return err
}

func i64(v int64) string  { return strconv.FormatInt(v, 10) }
func u64(v uint64) string { return strconv.FormatUint(v, 10) }

// memoryV1 orders the two limits: memory never above memory plus swap.
func (g *Group) memoryV1(m *specs.LinuxMemory) []setting {
	if m == nil {
		return nil
	}
	var out []setting
	add := func(file, value string, soft bool) {
		out = append(out, setting{"memory", file, value, soft})
	}
	limit := func() {
		if m.Limit != nil && *m.Limit != 0 {
			add("memory.limit_in_bytes", i64(*m.Limit), false)
		}
	}
	swap := m.Swap
	if m.Limit != nil && *m.Limit == -1 && swap == nil {
		swap = m.Limit // no limit on memory means none on the sum
	}
	if swap == nil || *swap == 0 {
		limit()
	} else if g.raises(swap) {
		add("memory.memsw.limit_in_bytes", i64(*swap), *swap == -1)
		limit()
	} else {
		limit()
		add("memory.memsw.limit_in_bytes", i64(*swap), false)
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		add("memory.soft_limit_in_bytes", i64(*m.Reservation), false)
	}
	if m.KernelTCP != nil && *m.KernelTCP != 0 {
		add("memory.kmem.tcp.limit_in_bytes", i64(*m.KernelTCP), true)
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		add("memory.oom_control", "1", false)
	}
	if m.Swappiness != nil {
		add("memory.swappiness", u64(*m.Swappiness), false)
	}
	return out
}

// raises reports whether the new sum limit is above the present memory limit,
// so that it has to be set first.
func (g *Group) raises(swap *int64) bool {
	if *swap == -1 {
		return true
	}
	dir, _ := g.dir("memory")
	return uint64(*swap) > readUint(filepath.Join(dir, "memory.memsw.limit_in_bytes"))
}

func settingsV1(r *specs.LinuxResources) []setting {
	var out []setting
	add := func(controller, file, value string, soft bool) {
		out = append(out, setting{controller, file, value, soft})
	}
	if c := r.CPU; c != nil {
		out = append(out, cpuV1(c)...)
	}
	if r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit != 0 {
		limit := "max"
		if *r.Pids.Limit > 0 {
			limit = i64(*r.Pids.Limit)
		}
		add("pids", "pids.max", limit, limit == "max")
	}
	if r.BlockIO != nil {
		out = append(out, blkioV1(r.BlockIO)...)
	}
	for _, l := range r.HugepageLimits {
		add("hugetlb", "hugetlb."+l.Pagesize+".limit_in_bytes", u64(l.Limit), false)
		add("hugetlb", "hugetlb."+l.Pagesize+".rsvd.limit_in_bytes", u64(l.Limit), true)
	}
	if n := r.Network; n != nil {
		if n.ClassID != nil {
			add("net_cls", "net_cls.classid", u64(uint64(*n.ClassID)), false)
		}
		for _, p := range n.Priorities {
			add("net_prio", "net_prio.ifpriomap", fmt.Sprintf("%s %d", p.Name, p.Priority), false)
		}
	}
	for device, l := range r.Rdma {
		add("rdma", "rdma.max", rdma(device, l), false)
	}
	return out
}

func rdma(device string, l specs.LinuxRdma) string {
	s := device
	if l.HcaHandles != nil {
		s += fmt.Sprintf(" hca_handle=%d", *l.HcaHandles)
	}
	if l.HcaObjects != nil {
		s += fmt.Sprintf(" hca_object=%d", *l.HcaObjects)
	}
	return s
}

func cpuV1(c *specs.LinuxCPU) []setting {
	var out []setting
	add := func(controller, file, value string, soft bool) {
		out = append(out, setting{controller, file, value, soft})
	}
	if c.Shares != nil && *c.Shares != 0 {
		add("cpu", "cpu.shares", u64(*c.Shares), true)
	}
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		add("cpu", "cpu.rt_period_us", u64(*c.RealtimePeriod), false)
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		add("cpu", "cpu.rt_runtime_us", i64(*c.RealtimeRuntime), false)
	}
	if c.Period != nil && *c.Period != 0 {
		add("cpu", "cpu.cfs_period_us", u64(*c.Period), false)
	}
	if c.Quota != nil && *c.Quota != 0 {
		add("cpu", "cpu.cfs_quota_us", i64(*c.Quota), *c.Quota < 0)
	}
	if c.Burst != nil {
		add("cpu", "cpu.cfs_burst_us", u64(*c.Burst), *c.Burst == 0)
	}
	if c.Idle != nil {
		add("cpu", "cpu.idle", i64(*c.Idle), *c.Idle == 0)
	}
	if c.Cpus != "" {
		add("cpuset", "cpuset.cpus", c.Cpus, false)
	}
	if c.Mems != "" {
		add("cpuset", "cpuset.mems", c.Mems, false)
	}
	return out
}

func blkioV1(b *specs.LinuxBlockIO) []setting {
	var out []setting
	add := func(file, value string, soft bool) {
		out = append(out, setting{"blkio", file, value, soft})
	}
	if b.Weight != nil && *b.Weight != 0 {
		// The bfq scheduler owns weights on kernels without cfq.
		add("blkio.bfq.weight", u64(uint64(*b.Weight)), true)
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil {
			add("blkio.bfq.weight_device", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.Weight), true)
		}
	}
	for file, list := range map[string][]specs.LinuxThrottleDevice{
		"blkio.throttle.read_bps_device": b.ThrottleReadBpsDevice, "blkio.throttle.write_bps_device": b.ThrottleWriteBpsDevice,
		"blkio.throttle.read_iops_device": b.ThrottleReadIOPSDevice, "blkio.throttle.write_iops_device": b.ThrottleWriteIOPSDevice,
	} {
		for _, d := range list {
			add(file, fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate), false)
		}
	}
	return out
}

// DefaultDevices are the rules every container gets behind its own: making
// nodes, the standard devices and terminals.
func DefaultDevices() []specs.LinuxDeviceCgroup {
	n := func(v int64) *int64 { return &v }
	rule := func(major, minor int64) specs.LinuxDeviceCgroup {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: n(major), Access: "rwm"}
		if minor >= 0 {
			d.Minor = n(minor)
		}
		return d
	}
	return []specs.LinuxDeviceCgroup{
		{Allow: true, Type: "c", Access: "m"}, {Allow: true, Type: "b", Access: "m"},
		rule(1, 3), rule(1, 5), rule(1, 7), rule(1, 8), rule(1, 9), rule(5, 0), rule(5, 2), rule(136, -1),
	}
}

// all reports whether a rule speaks of every device.
func all(d specs.LinuxDeviceCgroup) bool {
	return (d.Type == "" || d.Type == "a") && d.Major == nil && d.Minor == nil
}

// deviceRules is the whole list in order, starting from nothing allowed. Open
// tells that everything ends up allowed.
func deviceRules(own []specs.LinuxDeviceCgroup) (rules []specs.LinuxDeviceCgroup, open bool) {
	for _, d := range own {
		if all(d) {
			rules, open = nil, d.Allow
			continue
		}
		rules = append(rules, d)
	}
	if !open {
		rules = append(rules, DefaultDevices()...)
	}
	return rules, open
}

// ApplyDevices restricts the devices that the group may use.
func (g *Group) ApplyDevices(own []specs.LinuxDeviceCgroup) (warnings []string, err error) {
	rules, open := deviceRules(own)
	if g.Unified {
		return g.devicesV2(rules, open)
	}
	dir, ok := g.dir("devices")
	if !ok {
		return []string{"devices: " + ErrController.Error()}, nil
	}
	deny, err := openRaw(filepath.Join(dir, "devices.deny"), unix.O_WRONLY)
	if err != nil {
		return nil, err
	}
	defer deny.Close()
	allow, err := openRaw(filepath.Join(dir, "devices.allow"), unix.O_WRONLY)
	if err != nil {
		return nil, err
	}
	defer allow.Close()
	first := deny
	if open {
		first = allow
	}
	if _, err := unix.Write(int(first.Fd()), []byte("a")); err != nil {
		return []string{fmt.Sprintf("device rules: %v", err)}, nil
	}
	for _, d := range rules {
		f := deny
		if d.Allow {
			f = allow
		}
		for _, line := range deviceLines(d) {
			if _, err := unix.Write(int(f.Fd()), []byte(line)); err != nil {
				return warnings, fmt.Errorf("device rule %q: %w", line, err)
			}
		}
	}
	return warnings, nil
}

func deviceLines(d specs.LinuxDeviceCgroup) []string {
	number := func(v *int64) string {
		if v == nil || *v < 0 {
			return "*"
		}
		return i64(*v)
	}
	access := d.Access
	if access == "" {
		access = "rwm"
	}
	types := []string{d.Type}
	if d.Type == "" || d.Type == "a" {
		types = []string{"b", "c"}
	}
	var out []string
	for _, t := range types {
		out = append(out, t+" "+number(d.Major)+":"+number(d.Minor)+" "+access)
	}
	return out
}

func readUint(path string) uint64 {
	b, _ := os.ReadFile(path)
	s := strings.TrimSpace(string(b))
	if s == "max" {
		return ^uint64(0)
	}
	v, _ := strconv.ParseUint(s, 10, 64)
	return v
}
