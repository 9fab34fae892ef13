// Package vm runs tests in a virtual machine: Debian's kernel and systemd with
// control groups of version 2 or 1, whatever the host has. `make vm` starts it; each
// machine takes about two minutes where QEMU has to emulate the processor.
//
// The test programs, orlop-runtime and a script are packed into a tar that is the
// machine's second disk. It runs them, tells by its second serial port, and powers
// off. Its first disk is thrown away, so nothing is left but the image in the cache.
package vm

import (
	"archive/tar"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var boot = flag.Bool("boot", false, "start virtual machines")

// bootTime bounds the life of a machine.
const bootTime = 9 * time.Minute

// programs are the test programs, by name, with the package they are of.
var programs = []struct{ name, dir string }{
	{"cgroup", "../../runtime/cgroup"}, {"runtime", "../../runtime"}, {"guest", "./guest"},
	{"volume", "../../services/volume/local"}, // Debian's kernel has quotas
	{"overlayfs", "../../snapshotters/overlayfs"},
}

// script runs in the machine. Each line of "program NAME STATUS" is an end.
const script = `cd /vm
export PATH=/vm:/usr/sbin:/usr/bin:/sbin:/bin ORLOP_VM=1
run() {
	name=$1; shift
	"$@"
	echo "program $name $?"
}
run cgroup ./cgroup.test -test.v
run runtime ./runtime.test -test.timeout 5m
run runtime-systemd env ORLOP_SYSTEMD_CGROUP=1 ./runtime.test -test.timeout 5m
run guest ./guest.test -test.v -test.timeout 5m
modprobe -a loop quota_v2 overlay
run volume ./volume.test -test.v
run overlayfs ./overlayfs.test -test.v -test.run TestBound
`

func TestUnified(t *testing.T) { runMachine(t, "") }

func TestVersion1(t *testing.T) {
	runMachine(t, "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1")
}

func runMachine(t *testing.T, kernel string) {
	if !*boot {
		t.Skip("starts a virtual machine: make vm")
	}
	image := imageDir(t)
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.tar")
	if err := pack(t.Context(), disk); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootTime)
	defer cancel()
	out, console := filepath.Join(dir, "out"), filepath.Join(dir, "console")
	cmd := exec.CommandContext(ctx, "nice", "-n", "10", "qemu-system-x86_64", "-M", "q35,usb=off", "-cpu", "max", "-accel", "tcg",
		"-smp", "1", "-m", "1024", "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(image, "vmlinuz"), "-initrd", filepath.Join(image, "initrd"),
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off systemd.show_status=false "+kernel,
		"-drive", "format=raw,if=virtio,snapshot=on,file="+filepath.Join(image, "root.img"),
		"-drive", "format=raw,if=virtio,readonly=on,file="+disk,
		"-serial", "file:"+console, "-serial", "file:"+out)
	began := time.Now()
	text, err := cmd.CombinedOutput()
	told, _ := os.ReadFile(out)
	t.Logf("the machine ran for %v and told:\n%s", time.Since(began).Round(time.Second), told)
	if err != nil {
		boot, _ := os.ReadFile(console)
		t.Fatalf("machine: %v: %s\n%s", err, text, boot)
	}
	report(t, string(told))
}

// report makes a subtest of each program.
func report(t *testing.T, told string) {
	for _, name := range []string{"cgroup", "runtime", "runtime-systemd", "guest", "volume", "overlayfs"} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(told, fmt.Sprintf("program %s 0\n", name)) {
				t.Errorf("%s failed, or did not run", name)
			}
		})
	}
}

// imageDir makes what machines boot from, once for a user.
func imageDir(t *testing.T) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "orlop-vm")
	if out, err := exec.Command("./image.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("image: %v: %s", err, out)
	}
	return dir
}

// pack builds the programs and writes the machine's second disk.
func pack(ctx context.Context, path string) error {
	dir := filepath.Dir(path)
	type build struct {
		file string
		args []string
	}
	builds := []build{{"orlop-runtime", []string{"build", "../../cmd/orlop-runtime"}}}
	for _, p := range programs {
		builds = append(builds, build{p.name + ".test", []string{"test", "-c", p.dir}})
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, b := range builds {
		last := len(b.args) - 1
		cmd := exec.CommandContext(ctx, "go", append(b.args[:last:last], "-o", filepath.Join(dir, b.file), b.args[last])...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", b.file, err, out)
		}
		content, err := os.ReadFile(filepath.Join(dir, b.file))
		if err != nil {
			return err
		}
		if err := add(w, b.file, content); err != nil {
			return err
		}
	}
	if err := add(w, "run", []byte(script)); err != nil {
		return err
	}
	return w.Close()
}

func add(w *tar.Writer, name string, b []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}
