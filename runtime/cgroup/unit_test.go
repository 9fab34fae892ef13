package cgroup

import (
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/internal/dbus"
)

func TestParseUnit(t *testing.T) {
	for _, c := range []struct{ path, name, group string }{
		{"", "orlop-web.scope", "/system.slice/orlop-web.scope"},
		{"system.slice:docker:1234", "docker-1234.scope", "/system.slice/docker-1234.scope"},
		{"::", "web.scope", "/system.slice/web.scope"},
		{"-.slice:p:n", "p-n.scope", "/p-n.scope"},
		{"kube-pod-burst.slice:cri:x", "cri-x.scope", "/kube.slice/kube-pod.slice/kube-pod-burst.slice/cri-x.scope"},
		{"machine.slice:a:b+c/d", `a-b\x2bc\x2fd.scope`, `/machine.slice/a-b\x2bc\x2fd.scope`},
	} {
		u, err := ParseUnit(c.path, "web")
		if err != nil || u.Name != c.name || u.path("") != c.group || u.path("/outer") != "/outer"+c.group {
			t.Errorf("%q: %+v %s %v", c.path, u, u.path(""), err)
		}
	}
	for _, bad := range []string{"/orlop/web", "a.slice:b", "a.slice:b:c:d", "a--b.slice:p:n", "-a.slice:p:n", ".slice:p:n",
		"a/../b.slice:p:n", "a.scope:p:n", "a.slice:p:" + strings.Repeat("x", 255)} {
		if u, err := ParseUnit(bad, "web"); err == nil {
			t.Errorf("%q was taken as %+v", bad, u)
		}
	}
}

func find(list []dbus.Property, name string) any {
	var v any
	for _, p := range list {
		if p.Name == name {
			v = p.Value
		}
	}
	return v
}

func TestProperties(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	u := func(v uint64) *uint64 { return &v }
	weight := uint16(1000)
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: n(100), Swap: n(150), Reservation: n(50)},
		CPU:    &specs.LinuxCPU{Shares: u(1024), Quota: n(12345), Period: u(50000), Cpus: "0-2,9", Mems: "1"},
		Pids:   &specs.LinuxPids{Limit: n(-1)}, BlockIO: &specs.LinuxBlockIO{Weight: &weight},
		Unified: map[string]string{"memory.high": "80", "memory.min": "max"},
	}
	v2 := (&properties{unified: true, version: 252}).limits(r)
	for name, want := range map[string]any{"MemoryMax": uint64(100), "MemorySwapMax": uint64(50), "MemoryLow": uint64(50), "MemoryHigh": uint64(80),
		"MemoryMin": infinity, "CPUWeight": uint64(100), "CPUQuotaPerSecUSec": uint64(250000), "CPUQuotaPeriodUSec": uint64(50000),
		"AllowedCPUs": []byte{7, 2}, "AllowedMemoryNodes": []byte{2}, "TasksMax": infinity, "IOWeight": uint64(10000), "MemoryLimit": nil} {
		if got := find(v2, name); !reflect.DeepEqual(got, want) {
			t.Errorf("version 2: %s is %v, want %v", name, got, want)
		}
	}
	v1 := (&properties{version: 219}).limits(r)
	for name, want := range map[string]any{"MemoryLimit": uint64(100), "CPUShares": uint64(1024), "CPUQuotaPerSecUSec": uint64(250000),
		"CPUQuotaPeriodUSec": nil, "AllowedCPUs": nil, "MemoryMax": nil, "IOWeight": nil, "MemoryHigh": nil, "TasksMax": infinity} {
		if got := find(v1, name); !reflect.DeepEqual(got, want) {
			t.Errorf("version 1: %s is %v, want %v", name, got, want)
		}
	}
	for _, p := range append(v1, v2...) {
		if dbus.Signature(p.Value) == "" {
			t.Errorf("%s cannot be told: %T", p.Name, p.Value)
		}
	}
}

func TestPropertiesOfDevices(t *testing.T) {
	one := int64(1)
	own := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, {Allow: true, Type: "b", Access: "r"},
		{Allow: true, Type: "c", Major: &one, Minor: &one}, {Allow: false, Type: "c", Major: &one, Minor: &one}}
	list := (&properties{}).devices(own)
	allow, _ := find(list, "DeviceAllow").([]dbus.Pair)
	if find(list, "DevicePolicy") != "strict" || len(allow) < 5 || allow[0] != (dbus.Pair{"block-*", "r"}) || allow[1] != (dbus.Pair{"/dev/char/1:1", "rwm"}) {
		t.Errorf("%v", list)
	}
	if list := (&properties{unified: true}).devices(own); list != nil {
		t.Errorf("version 2: %v", list)
	}
	if list := (&properties{}).devices([]specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}); find(list, "DevicePolicy") != "auto" {
		t.Errorf("all: %v", list)
	}
}
