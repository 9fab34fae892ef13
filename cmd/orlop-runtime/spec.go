package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"github.com/orlop/orlop/runtime"
)

var specVersion = specs.Version

// version is the module's, as the build recorded it.
func version() string {
	if i, ok := debug.ReadBuildInfo(); ok && i.Main.Version != "" && i.Main.Version != "(devel)" {
		return i.Main.Version
	}
	return "0.1.0-dev"
}

var specCommand = command{name: "spec", help: "write an example config.json", most: 0,
	flags: []option{
		{name: "bundle", short: "b", value: "DIR", help: "where to write it (default .)"},
		{name: "rootless", help: "for a user without rights"},
	}, run: writeSpec}

func writeSpec(k *call) (int, error) {
	path := filepath.Join(k.flags.get("bundle"), "config.json")
	s := runtime.ExampleSpec()
	if k.flags.is("rootless") {
		rootless(s)
	}
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return 1, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return 1, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := f.Write(append(b, '\n')); err != nil {
		f.Close()
		return 1, err
	}
	return 0, f.Close()
}

// rootless maps root to the caller and leaves out what needs rights.
func rootless(s *specs.Spec) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: uint32(os.Geteuid()), Size: 1}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: uint32(os.Getegid()), Size: 1}}
	s.Linux.Resources = nil
	for i, m := range s.Mounts {
		if m.Destination == "/sys" {
			s.Mounts[i] = specs.Mount{Destination: "/sys", Type: "none", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}
		}
	}
}

var featuresCommand = command{name: "features", help: "list what this runtime can do, as JSON", most: 0,
	run: func(*call) (int, error) { return 0, printJSON(listFeatures(), true) }}

func listFeatures() features.Features {
	yes, no := true, false
	options := runtime.KnownMountOptions()
	slices.Sort(options)
	kinds := []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"}
	return features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: specs.Version,
		Hooks:        []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions: slices.Compact(options),
		Linux: &features.Linux{
			Namespaces: kinds, Capabilities: runtime.CapabilityNames(),
			Cgroup: &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &no, Rdma: &yes},
			Seccomp: &features.Seccomp{Enabled: &yes,
				Actions: []string{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
					"SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"},
				Operators: []string{"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"},
				Archs:     []string{"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"},
				KnownFlags: []string{"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
					"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}},
			Apparmor: &features.Apparmor{Enabled: &no}, Selinux: &features.Selinux{Enabled: &no},
			IntelRdt:        &features.IntelRdt{Enabled: &no},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
		},
	}
}
