package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/profiles/seccomp"

	"github.com/orlop/orlop/runtime"
)

// ociRuntime is a program with runc's command line.
type ociRuntime struct {
	name string
	call func(args ...string) []string
}

func (b *bench) ociRuntimes() []ociRuntime {
	own := filepath.Join(b.bin, "orlop-runtime")
	state := b.path("runtimes")
	all := []ociRuntime{{"orlop-runtime", func(args ...string) []string {
		return append([]string{own, "--root", filepath.Join(state, "orlop")}, args...)
	}}}
	if missing("runc") == nil {
		all = append(all, ociRuntime{"runc", func(args ...string) []string {
			return append([]string{"runc", "--root", filepath.Join(state, "runc")}, args...)
		}})
	}
	if missing("crun") == nil {
		// It refuses machines with both kinds of cgroups; hiding one costs it 2 ms.
		all = append(all, ociRuntime{"crun (in unshare, sh)", func(args ...string) []string {
			return append([]string{"unshare", "-m", "sh", "-c", `umount /sys/fs/cgroup/unified 2>/dev/null; exec "$0" "$@"`,
				"crun", "--root", filepath.Join(state, "crun")}, args...)
		}})
	}
	return all
}

// runtimes measures OCI runtimes by themselves.
func (b *bench) runtimes() error {
	dir, err := b.bundle()
	if err != nil {
		return err
	}
	all := b.ociRuntimes()
	var names []string
	for _, r := range all {
		names = append(names, r.name)
	}
	b.round("OCI runtime: run true", "< crun", names, func(i int) bool { return i == 0 }, func(i, n int) (time.Duration, error) {
		return command(nil, all[i].call("run", "--bundle", dir, fmt.Sprintf("peers-%d-%d-%d", os.Getpid(), i, n))...)
	})
	return nil
}

// bundle makes an OCI bundle whose program is busybox's true.
func (b *bench) bundle() (string, error) {
	dir := b.path("bundle")
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return "", fmt.Errorf("%w: Debian's busybox-static is needed", err)
	}
	var errs []error
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc"} {
		errs = append(errs, os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755))
	}
	errs = append(errs, os.WriteFile(filepath.Join(dir, "rootfs/bin/true"), box, 0o755))
	s := runtime.ExampleSpec()
	s.Version = "1.0.2" // what old peers know
	s.Process.Terminal, s.Process.Args = false, []string{"true"}
	profile, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		return "", err
	}
	s.Linux.Seccomp = profile
	j, err := json.Marshal(s)
	errs = append(errs, err, os.WriteFile(filepath.Join(dir, "config.json"), j, 0o644), os.Chmod(b.dir, 0o755))
	return dir, errors.Join(errs...)
}
