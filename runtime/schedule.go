package runtime

import (
	"fmt"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime/table"
	"golang.org/x/sys/unix"
)

var schedulerPolicies = map[specs.LinuxSchedulerPolicy]uint32{
	specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3,
	specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6,
}

var schedulerFlags = map[specs.LinuxSchedulerFlag]uint64{
	specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2, specs.SchedFlagDLOverrun: 4,
	specs.SchedFlagKeepPolicy: 8, specs.SchedFlagKeepParams: 16,
	specs.SchedFlagUtilClampMin: 32, specs.SchedFlagUtilClampMax: 64,
}

var ioClasses = map[specs.IOPriorityClass]int{
	specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3,
}

// memoryPolicy are the arguments of set_mempolicy.
type memoryPolicy struct {
	mode  uint64
	nodes []uint64
}

// addScheduling sets scheduler, I/O priority, personality and memory policy.
func (p *plan) addScheduling(g *program) error {
	t := p.t
	if s := g.proc.Scheduler; s != nil {
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Nice: s.Nice, Priority: uint32(s.Priority),
			Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period}
		var ok bool
		if attr.Policy, ok = schedulerPolicies[s.Policy]; !ok {
			return invalid("scheduler policy %q", s.Policy)
		}
		for _, f := range s.Flags {
			bit, ok := schedulerFlags[f]
			if !ok {
				return invalid("scheduler flag %q", f)
			}
			attr.Flags |= bit
		}
		t.Add("scheduler", unix.SYS_SCHED_SETATTR, 0, put(p, attr), 0)
	}
	if i := g.proc.IOPriority; i != nil {
		class, ok := ioClasses[i.Class]
		if !ok || i.Priority < 0 || i.Priority > 7 {
			return invalid("I/O priority %s %d", i.Class, i.Priority)
		}
		t.Add("I/O priority", unix.SYS_IOPRIO_SET, 1, 0, class<<13|i.Priority)
	}
	if g.personality != nil {
		t.Add("personality", unix.SYS_PERSONALITY, *g.personality)
	}
	if m := g.policy; m != nil {
		var nodes [128]byte
		for _, n := range m.nodes {
			nodes[n/8] |= 1 << (n % 8)
		}
		t.Add("memory policy", unix.SYS_SET_MEMPOLICY, m.mode, t.Bytes(nodes[:]), 8*len(nodes))
	}
	return nil
}

// addLabels sets the security labels that the program will run with. They are
// written through the host's procfs, before anything of the container is in sight.
func (p *plan) addLabels(proc *specs.Process) error {
	write := func(name, file, value string) {
		t := p.t
		open := t.Add(name, unix.SYS_OPENAT, atCWD, p.str("/proc/thread-self/attr/"+file), unix.O_WRONLY|unix.O_CLOEXEC)
		t.Add(name, unix.SYS_WRITE, table.Result(open), p.str(value), len(value))
		t.Add(name, unix.SYS_CLOSE, table.Result(open))
	}
	if l := proc.ApparmorProfile; l != "" {
		if !present("/sys/module/apparmor/parameters/enabled") {
			return unsupported("AppArmor profile %q: the kernel has no AppArmor", l)
		}
		file := "exec"
		if present("/proc/self/attr/apparmor/exec") {
			file = "apparmor/exec"
		}
		write("AppArmor profile "+l, file, "exec "+l)
	}
	if l := proc.SelinuxLabel; l != "" {
		if !present("/sys/fs/selinux/enforce") {
			p.warn("SELinux label %q: the kernel has no SELinux", l)
			return nil
		}
		write("SELinux label "+l, "exec", l)
	}
	return nil
}

func present(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil
}

// addAffinity pins a process to processors.
func (p *plan) addAffinity(list string) error {
	cpus, err := parseRanges(list)
	if err != nil {
		return invalid("cpu affinity: %w", err)
	}
	var set [128]byte
	for _, c := range cpus {
		set[c/8] |= 1 << (c % 8)
	}
	p.t.Add("cpu affinity "+list, unix.SYS_SCHED_SETAFFINITY, 0, len(set), p.t.Bytes(set[:]))
	return nil
}

// parseRanges reads "0-3,5", with numbers below 1024.
func parseRanges(s string) ([]uint64, error) {
	var out []uint64
	for _, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		lo, hi, ok := strings.Cut(part, "-")
		if !ok {
			hi = lo
		}
		a, err := strconv.ParseUint(lo, 10, 16)
		if err != nil {
			return nil, err
		}
		b, err := strconv.ParseUint(hi, 10, 16)
		if err != nil {
			return nil, err
		}
		if a > b || b >= 1024 {
			return nil, fmt.Errorf("range %q", part)
		}
		for n := a; n <= b; n++ {
			out = append(out, n)
		}
	}
	return out, nil
}

var memoryModes = map[specs.MemoryPolicyModeType]uint64{
	specs.MpolDefault: 0, specs.MpolPreferred: 1, specs.MpolBind: 2, specs.MpolInterleave: 3,
	specs.MpolLocal: 4, specs.MpolPreferredMany: 5, specs.MpolWeightedInterleave: 6,
}

var memoryFlags = map[specs.MemoryPolicyFlagType]uint64{
	specs.MpolFNumaBalancing: 1 << 13, specs.MpolFRelativeNodes: 1 << 14, specs.MpolFStaticNodes: 1 << 15,
}

func parseMemoryPolicy(m *specs.LinuxMemoryPolicy) (*memoryPolicy, error) {
	if m == nil {
		return nil, nil
	}
	mode, ok := memoryModes[m.Mode]
	if !ok {
		return nil, invalid("memory policy mode %q", m.Mode)
	}
	for _, f := range m.Flags {
		bit, ok := memoryFlags[f]
		if !ok {
			return nil, invalid("memory policy flag %q", f)
		}
		mode |= bit
	}
	nodes, err := parseRanges(m.Nodes)
	if err != nil {
		return nil, invalid("memory policy nodes: %w", err)
	}
	return &memoryPolicy{mode, nodes}, nil
}

func parsePersonality(p *specs.LinuxPersonality) (*uint64, error) {
	if p == nil {
		return nil, nil
	}
	if len(p.Flags) > 0 {
		return nil, invalid("personality flags: none are defined")
	}
	v := uint64(0)
	switch p.Domain {
	case specs.PerLinux:
	case specs.PerLinux32:
		v = 8
	default:
		return nil, invalid("personality domain %q", p.Domain)
	}
	return &v, nil
}
