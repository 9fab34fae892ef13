package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

var updateCommand = command{name: "update", args: "ID", help: "change limits", least: 1, most: 1,
	flags: []option{
		{name: "resources", short: "r", value: "FILE", help: "resources section as JSON, - for stdin"},
		{name: "blkio-weight", value: "N", help: "10 to 1000"},
		{name: "cpu-period", value: "USEC", help: "period of the quota"},
		{name: "cpu-quota", value: "USEC", help: "time in a period"},
		{name: "cpu-burst", value: "USEC", help: "time that may be saved up"},
		{name: "cpu-share", value: "N", help: "relative weight"},
		{name: "cpu-rt-period", value: "USEC", help: "period of the realtime quota"},
		{name: "cpu-rt-runtime", value: "USEC", help: "realtime time in a period"},
		{name: "cpuset-cpus", value: "LIST", help: "processors"},
		{name: "cpuset-mems", value: "LIST", help: "memory nodes"},
		{name: "cpu-idle", value: "0|1", help: "run only when nothing else does"},
		{name: "memory", value: "BYTES", help: "limit of memory"},
		{name: "memory-reservation", value: "BYTES", help: "soft limit"},
		{name: "memory-swap", value: "BYTES", help: "limit of memory plus swap, -1 for none"},
		{name: "kernel-memory", value: "BYTES", help: "accepted for compatibility; ignored"},
		{name: "kernel-memory-tcp", value: "BYTES", help: "limit of socket buffers"},
		{name: "pids-limit", value: "N", help: "number of processes"},
		{name: "l3-cache-schema", value: "S", help: "not supported"},
		{name: "mem-bw-schema", value: "S", help: "not supported"},
	}, run: update}

func update(k *call) (int, error) {
	c, err := k.container()
	if err != nil {
		return 1, err
	}
	r := &specs.LinuxResources{}
	if file := k.flags.get("resources"); file != "" {
		in := io.Reader(os.Stdin)
		if file != "-" {
			f, err := os.Open(file)
			if err != nil {
				return 1, err
			}
			defer f.Close()
			in = f
		}
		if err := json.NewDecoder(io.LimitReader(in, 1<<20)).Decode(r); err != nil {
			return 1, err
		}
	} else if err := k.resources(r); err != nil {
		return 1, err
	}
	return 0, c.Update(k.ctx, r)
}

// resources reads the single flags.
func (k *call) resources(r *specs.LinuxResources) error {
	n := numbers{k: k}
	r.CPU = &specs.LinuxCPU{Shares: n.unsigned("cpu-share"), Period: n.unsigned("cpu-period"), Quota: n.signed("cpu-quota"),
		Burst: n.unsigned("cpu-burst"), RealtimePeriod: n.unsigned("cpu-rt-period"), RealtimeRuntime: n.signed("cpu-rt-runtime"),
		Idle: n.signed("cpu-idle"), Cpus: k.flags.get("cpuset-cpus"), Mems: k.flags.get("cpuset-mems")}
	r.Memory = &specs.LinuxMemory{Limit: n.size("memory"), Reservation: n.size("memory-reservation"),
		Swap: n.size("memory-swap"), KernelTCP: n.size("kernel-memory-tcp")}
	if v := n.signed("pids-limit"); v != nil {
		r.Pids = &specs.LinuxPids{Limit: v}
	}
	if v := n.unsigned("blkio-weight"); v != nil {
		w := uint16(*v)
		r.BlockIO = &specs.LinuxBlockIO{Weight: &w}
	}
	return n.err
}

// numbers reads numeric flags and remembers the first mistake.
type numbers struct {
	k   *call
	err error
}

func (n *numbers) signed(name string) *int64 {
	s := n.k.flags.get(name)
	if s == "" {
		return nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil && n.err == nil {
		n.err = fmt.Errorf("--%s %s: not a number", name, s)
	}
	return &v
}

func (n *numbers) unsigned(name string) *uint64 {
	v := n.signed(name)
	if v == nil {
		return nil
	}
	u := uint64(*v)
	return &u
}

// size reads bytes with an optional unit.
func (n *numbers) size(name string) *int64 {
	s := strings.ToLower(n.k.flags.get(name))
	if s == "" {
		return nil
	}
	digits := strings.TrimRight(s, "bkmgi")
	unit := strings.TrimRight(strings.TrimPrefix(s, digits), "bi")
	shift, ok := map[string]int{"": 0, "k": 10, "m": 20, "g": 30}[unit]
	v, err := strconv.ParseInt(digits, 10, 64)
	if (err != nil || !ok) && n.err == nil {
		n.err = fmt.Errorf("--%s %s: not a size", name, s)
	}
	v <<= shift
	return &v
}
