package spec

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the golden files")

var image = imagespec.ImageConfig{
	Entrypoint: []string{"/entry"},
	Cmd:        []string{"serve"},
	Env:        []string{"PATH=/bin", "LANG=C", "DROP=me"},
	WorkingDir: "/srv",
	User:       "web",
}

var rootfs = fstest.MapFS{
	"etc/passwd": {Data: []byte("root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")},
	"etc/group":  {Data: []byte("root:x:0:\nweb:x:34:\nlog:x:4:web,root\nvideo:x:44:\n")},
}

// TestGolden compares whole specs with testdata/*.json. Seccomp profiles are
// cut, since they are the library's; TestSeccomp looks at them.
func TestGolden(t *testing.T) {
	score := -500
	for name, o := range map[string]Options{
		"plain": {ID: "c1", Image: image, Rootfs: rootfs},
		"overrides": {
			ID: "c2", Image: image, Rootfs: rootfs, Args: []string{"check"}, Env: []string{"LANG=de", "DROP", "NEW=1"}, Cwd: "/tmp/../var",
			User: "0:video", ExtraGroups: []string{"log", "77"}, Terminal: true, Width: 80, Height: 24, ReadonlyRootfs: true,
			Hostname: "box", CgroupMount: true, CgroupParent: "a/b", OOMScoreAdj: &score,
			Mounts: []specs.Mount{
				{Destination: "/data/", Type: "bind", Source: "/d", Options: []string{"rbind"}},
				{Destination: "/dev/shm", Type: "tmpfs", Source: "mine"},
			},
			Security:    Security{CapAdd: []string{"net_admin"}, CapDrop: []string{"CAP_MKNOD"}, NoNewPrivileges: true, AppArmor: "orlop"},
			Resources:   Resources{Memory: 64 << 20, MemorySwap: -1, CPUs: 1.5, CPUShares: 512, CpusetCPUs: "0-1", PidsLimit: 100, BlkioWeight: 300, Unified: map[string]string{"memory.high": "1"}},
			Rlimits:     []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 2048}},
			Annotations: map[string]string{"a": "b"},
			Devices:     []Device{{Host: "/dev/zero", Container: "/dev/nothing", Access: "r"}},
		},
		"host": {
			ID: "c3", Entrypoint: []string{"/sh"}, Image: image, User: "5:6", Network: Host, PID: Host, IPC: Host, UTS: Host,
			Cgroup: "/proc/1/ns/cgroup", SystemdCgroup: true, Security: Security{Unmasked: true, CapDrop: []string{"all"}, CapAdd: []string{"CHOWN"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Generate(o)
			if err != nil {
				t.Fatal(err)
			}
			if s.Linux.Seccomp == nil {
				t.Error("no seccomp profile")
			}
			s.Linux.Seccomp = nil
			golden(t, filepath.Join("testdata", name+".json"), s)
		})
	}
}

func golden(t *testing.T, file string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; with -update it would be:\n%s", file, got)
	}
}

func TestPrivileged(t *testing.T) {
	s, err := Generate(Options{ID: "p", Args: []string{"x"}, Security: Security{Privileged: true, AppArmor: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	l := s.Linux
	if l.Seccomp != nil || l.MaskedPaths != nil || l.ReadonlyPaths != nil || s.Process.ApparmorProfile != "" {
		t.Error("a privileged container is confined")
	}
	if !slices.Contains(s.Process.Capabilities.Effective, "CAP_SYS_ADMIN") || len(s.Process.Capabilities.Inheritable) > 0 {
		t.Errorf("capabilities %v", s.Process.Capabilities)
	}
	if d := l.Resources.Devices; len(d) != 1 || !d[0].Allow || len(l.Devices) == 0 {
		t.Errorf("devices %v, %d nodes", d, len(l.Devices))
	}
}

func TestSeccomp(t *testing.T) {
	make := func(s Security) *specs.LinuxSeccomp {
		t.Helper()
		out, err := Generate(Options{ID: "p", Args: []string{"x"}, Security: s})
		if err != nil {
			t.Fatal(err)
		}
		return out.Linux.Seccomp
	}
	allows := func(p *specs.LinuxSeccomp, name string) bool {
		return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
			return s.Action == specs.ActAllow && slices.Contains(s.Names, name) && len(s.Args) == 0
		})
	}
	p := make(Security{})
	if p.DefaultAction != specs.ActErrno || allows(p, "mount") || !allows(p, "read") {
		t.Error("the default profile is not the default profile")
	}
	if make(Security{}) != p {
		t.Error("the profile is not cached")
	}
	if !allows(make(Security{CapAdd: []string{"SYS_ADMIN"}}), "mount") {
		t.Error("CAP_SYS_ADMIN does not allow mount")
	}
	if make(Security{Seccomp: "unconfined"}) != nil {
		t.Error("unconfined has a profile")
	}
	own := make(Security{Seccomp: `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`})
	if own.DefaultAction != specs.ActAllow || own.Syscalls[0].Names[0] != "chmod" {
		t.Errorf("own profile %+v", own)
	}
	for i := range 3 * maxProfiles {
		make(Security{Seccomp: `{"defaultAction":"SCMP_ACT_ALLOW"}` + strings.Repeat(" ", i)})
	}
	if n := len(profiles.byKey); n > maxProfiles {
		t.Errorf("cache holds %d profiles", n)
	}
}

func TestMistakes(t *testing.T) {
	for want, o := range map[string]Options{
		"no command":                            {ID: "a"},
		"neither an ID nor a cgroup path":       {Args: []string{"x"}},
		`working folder "rel" is no absolute`:   {Cwd: "rel"},
		`invalid environment variable: =x`:      {Env: []string{"=x"}},
		`argument "a\x00b" has a zero byte`:     {Args: []string{"a\x00b"}},
		`network namespace "bridge" is neither`: {Network: "bridge"},
		`hostname "h" can't be set`:             {Hostname: "h", UTS: Host},
		`mount destination "d" is no absolute`:  {Mounts: []specs.Mount{{Destination: "d"}}},
		`cgroup parent "a" is no slice`:         {SystemdCgroup: true, CgroupParent: "a"},
		`cgroup parent "../x" leads upwards`:    {CgroupParent: "../x"},
		"memory limit 1000 is below":            {Resources: Resources{Memory: 1000}},
		"limit of memory and swap 1048576 is":   {Resources: Resources{Memory: 2 << 20, MemorySwap: 1 << 20}},
		"number of processors -1 is out of":     {Resources: Resources{CPUs: -1}},
		`cgroup file "../x" is no name`:         {Resources: Resources{Unified: map[string]string{"../x": "1"}}},
		"limit of processes -2":                 {Resources: Resources{PidsLimit: -2}},
		"soft limit 2 is above the hard one, 1": {Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 2, Hard: 1}}},
		`(did you mean "CAP_NET_ADMIN"?)`:       {Security: Security{CapAdd: []string{"net_admim"}}},
		"device /dev/none: stat":                {Devices: []Device{{Host: "/dev/none"}}},
		"device /etc/passwd: is no device":      {Devices: []Device{{Host: "/etc/passwd"}}},
		"seccomp profile: ":                     {Security: Security{Seccomp: "{"}},
	} {
		if want != "no command" && o.Args == nil {
			o.Args = []string{"x"}
		}
		if !strings.HasPrefix(want, "neither") {
			o.ID = "a"
		}
		if _, err := Generate(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	_, err := Generate(Options{Cwd: "rel", PID: "x"})
	if got := strings.Count(err.Error(), "\n"); got != 3 {
		t.Errorf("not all mistakes at once: %v", err)
	}
}

func TestParse(t *testing.T) {
	m, err := ParseMount("type=bind,src=/a,target=/b,options=rbind:noexec,ro")
	if err != nil || m.Source != "/a" || m.Destination != "/b" || strings.Join(m.Options, ",") != "rbind,noexec,ro" {
		t.Errorf("mount %+v, %v", m, err)
	}
	for _, bad := range []string{"src=/a", "src=a,dst=/b", "dst=b,type=tmpfs", "x=1,dst=/b", "src=/a,dst=/b,ro=maybe"} {
		if _, err := ParseMount(bad); err == nil {
			t.Errorf("ParseMount(%q) took it", bad)
		}
	}
	for text, want := range map[string]Device{
		"/dev/a":           {Host: "/dev/a", Access: "rwm"},
		"/dev/a:/dev/b":    {Host: "/dev/a", Container: "/dev/b", Access: "rwm"},
		"/dev/a:r":         {Host: "/dev/a", Access: "r"},
		"/dev/a:/dev/b:rw": {Host: "/dev/a", Container: "/dev/b", Access: "rw"},
	} {
		if d, err := ParseDevice(text); err != nil || d != want {
			t.Errorf("ParseDevice(%q) = %+v, %v", text, d, err)
		}
	}
	for _, bad := range []string{"", "a", "/a:b:c:d", "/a:/b:/c", "/a:x", "/a:"} {
		if _, err := ParseDevice(bad); err == nil {
			t.Errorf("ParseDevice(%q) took it", bad)
		}
	}
}

func TestDeviceNumber(t *testing.T) {
	for dev, want := range map[uint64][2]int64{0x0103: {1, 3}, 8<<8 | 1: {8, 1}, 0x12300fff00 | 0xab: {0xfff, 0x12300ab}} {
		if major, minor := deviceNumber(dev); dev < 1<<32 && [2]int64{major, minor} != want {
			t.Errorf("deviceNumber(%#x) = %d, %d", dev, major, minor)
		}
	}
}

func BenchmarkGenerate(b *testing.B) {
	o := Options{ID: "c1", Image: image, Rootfs: rootfs}
	for b.Loop() {
		if _, err := Generate(o); err != nil {
			b.Fatal(err)
		}
	}
}
