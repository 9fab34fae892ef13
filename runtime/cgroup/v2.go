package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// applyV2 sets limits in the unified hierarchy.
func (g *Group) applyV2(r *specs.LinuxResources) (warnings []string, err error) {
	for _, s := range settingsV2(r) {
		err := write(filepath.Join(g.V2, s.file), s.value)
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%s: %w", s.file, ErrController)
		}
		if !s.soft {
			return warnings, err
		}
		warnings = append(warnings, err.Error())
	}
	return warnings, nil
}

func settingsV2(r *specs.LinuxResources) []setting {
	var out []setting
	add := func(file, value string, soft bool) { out = append(out, setting{"", file, value, soft}) }
	max := func(v int64) string {
		if v < 0 {
			return "max"
		}
		return i64(v)
	}
	if m := r.Memory; m != nil {
		out = append(out, memoryV2(m)...)
	}
	if c := r.CPU; c != nil {
		out = append(out, cpuV2(c)...)
	}
	if r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit != 0 {
		add("pids.max", max(*r.Pids.Limit), *r.Pids.Limit < 0)
	}
	if b := r.BlockIO; b != nil {
		if b.Weight != nil && *b.Weight != 0 {
			add("io.bfq.weight", u64(uint64(*b.Weight)), true)
		}
		for key, list := range map[string][]specs.LinuxThrottleDevice{
			"rbps": b.ThrottleReadBpsDevice, "wbps": b.ThrottleWriteBpsDevice,
			"riops": b.ThrottleReadIOPSDevice, "wiops": b.ThrottleWriteIOPSDevice,
		} {
			for _, d := range list {
				add("io.max", fmt.Sprintf("%d:%d %s=%d", d.Major, d.Minor, key, d.Rate), false)
			}
		}
	}
	for _, l := range r.HugepageLimits {
		add("hugetlb."+l.Pagesize+".max", u64(l.Limit), false)
		add("hugetlb."+l.Pagesize+".rsvd.max", u64(l.Limit), true)
	}
	for device, l := range r.Rdma {
		add("rdma.max", rdma(device, l), false)
	}
	for file, value := range r.Unified {
		if !strings.Contains(file, "/") {
			add(file, value, false)
		}
	}
	return out
}

// memoryV2 turns the sum of memory and swap into swap alone.
func memoryV2(m *specs.LinuxMemory) []setting {
	var out []setting
	add := func(file string, v int64) {
		value := i64(v)
		if v < 0 {
			value = "max"
		}
		out = append(out, setting{"", file, value, v < 0})
	}
	if m.Swap != nil && *m.Swap != 0 {
		switch {
		case *m.Swap < 0:
			add("memory.swap.max", -1)
		case m.Limit != nil && *m.Limit > 0 && *m.Swap >= *m.Limit:
			add("memory.swap.max", *m.Swap-*m.Limit)
		}
	}
	if m.Limit != nil && *m.Limit != 0 {
		add("memory.max", *m.Limit)
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		add("memory.low", *m.Reservation)
	}
	return out
}

func cpuV2(c *specs.LinuxCPU) []setting {
	var out []setting
	add := func(file, value string, soft bool) { out = append(out, setting{"", file, value, soft}) }
	if c.Shares != nil && *c.Shares != 0 {
		add("cpu.weight", u64(Weight(*c.Shares)), true)
	}
	if c.Quota != nil || c.Period != nil {
		quota, period := "max", uint64(100000)
		if c.Quota != nil && *c.Quota > 0 {
			quota = i64(*c.Quota)
		}
		if c.Period != nil && *c.Period != 0 {
			period = *c.Period
		}
		add("cpu.max", quota+" "+u64(period), quota == "max")
	}
	if c.Burst != nil {
		add("cpu.max.burst", u64(*c.Burst), *c.Burst == 0)
	}
	if c.Idle != nil {
		add("cpu.idle", i64(*c.Idle), *c.Idle == 0)
	}
	if c.Cpus != "" {
		add("cpuset.cpus", c.Cpus, false)
	}
	if c.Mems != "" {
		add("cpuset.mems", c.Mems, false)
	}
	return out
}

// Weight converts CPU shares (2 to 262144, default 1024) to a weight (1 to
// 10000, default 100), so that minimum, default and maximum meet.
func Weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// devicesV2 attaches a program that allows the listed devices.
func (g *Group) devicesV2(rules []specs.LinuxDeviceCgroup, open bool) (warnings []string, err error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupDevice, License: "Apache-2.0", Instructions: deviceProgram(rules, open),
	})
	if err != nil {
		return []string{fmt.Sprintf("device rules: %v", err)}, nil
	}
	defer prog.Close()
	dir, err := os.OpenFile(g.V2, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: int(dir.Fd()), Program: prog, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI,
	})
	if err != nil {
		return nil, fmt.Errorf("device rules: %w", err)
	}
	return nil, nil
}

// deviceProgram tries the rules from the last to the first; the first that
// matches decides.
func deviceProgram(rules []specs.LinuxDeviceCgroup, open bool) asm.Instructions {
	// struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }: the low half
	// of access_type is the device type, the high half the access.
	out := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), asm.And.Imm32(asm.R2, 0xffff),
		asm.LoadMem(asm.R3, asm.R1, 0, asm.Word), asm.RSh.Imm32(asm.R3, 16),
		asm.LoadMem(asm.R4, asm.R1, 4, asm.Word), asm.LoadMem(asm.R5, asm.R1, 8, asm.Word),
	}
	for i := len(rules) - 1; i >= 0; i-- {
		d := rules[i]
		next := fmt.Sprintf("rule-%d", i)
		var body asm.Instructions
		switch d.Type {
		case "b":
			body = append(body, asm.JNE.Imm(asm.R2, unix.BPF_DEVCG_DEV_BLOCK, next))
		case "c":
			body = append(body, asm.JNE.Imm(asm.R2, unix.BPF_DEVCG_DEV_CHAR, next))
		}
		if bits := accessBits(d.Access); bits != 7 {
			body = append(body, asm.Mov.Reg32(asm.R1, asm.R3), asm.And.Imm32(asm.R1, int32(bits)), asm.JNE.Reg(asm.R1, asm.R3, next))
		}
		if d.Major != nil && *d.Major >= 0 {
			body = append(body, asm.JNE.Imm(asm.R4, int32(*d.Major), next))
		}
		if d.Minor != nil && *d.Minor >= 0 {
			body = append(body, asm.JNE.Imm(asm.R5, int32(*d.Minor), next))
		}
		body = append(body, asm.Mov.Imm32(asm.R0, verdict(d.Allow)), asm.Return())
		if i < len(rules)-1 {
			body[0] = body[0].WithSymbol(fmt.Sprintf("rule-%d", i+1))
		}
		out = append(out, body...)
	}
	end := asm.Mov.Imm32(asm.R0, verdict(open))
	if len(rules) > 0 {
		end = end.WithSymbol("rule-0")
	}
	return append(out, end, asm.Return())
}

func verdict(allow bool) int32 {
	if allow {
		return 1
	}
	return 0
}

func accessBits(s string) int {
	if s == "" {
		return 7
	}
	bits := 0
	for _, c := range s {
		bits |= map[rune]int{'m': unix.BPF_DEVCG_ACC_MKNOD, 'r': unix.BPF_DEVCG_ACC_READ, 'w': unix.BPF_DEVCG_ACC_WRITE}[c]
	}
	return bits
}
