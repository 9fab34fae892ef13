package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disk is an ext4 in a file, for the daemon's root.
type disk struct {
	t          *testing.T
	image, dir string
}

func newDisk(t *testing.T, size string) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a disk")
	}
	base, err := os.MkdirTemp("", "orlop-disk-")
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, image: filepath.Join(base, "image"), dir: filepath.Join(base, "root")}
	t.Cleanup(func() {
		d.unmount()
		os.RemoveAll(base)
	})
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d.must("truncate", "-s", size, d.image)
	d.must("mkfs.ext4", "-q", "-F", d.image)
	d.mount()
	return d
}

func (d *disk) must(args ...string) {
	d.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s: %v\n%s", args, err, out)
	}
}

func (d *disk) mount(options ...string) {
	d.t.Helper()
	d.must("mount", "-o", strings.Join(append([]string{"loop"}, options...), ","), d.image, d.dir)
}

// unmount takes away the disk and what is mounted below.
func (d *disk) unmount() {
	data, _ := os.ReadFile("/proc/self/mounts")
	lines := strings.Split(string(data), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 1 && strings.HasPrefix(f[1]+"/", d.dir+"/") {
			if err := syscall.Unmount(f[1], 0); err != nil {
				time.Sleep(200 * time.Millisecond) // a worker that just ends
				err = syscall.Unmount(f[1], syscall.MNT_DETACH)
				if err != nil {
					d.t.Errorf("unmount %s: %v", f[1], err)
				}
			}
		}
	}
}

// cut makes the disk behave as if the power went: nothing more reaches it, and
// what is in the journal's memory is lost (EXT4_IOC_SHUTDOWN, no log flush).
func (d *disk) cut() {
	d.t.Helper()
	const shutdown, noLogFlush = 0x8004587d, 2
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		d.t.Fatal("EXT4_IOC_SHUTDOWN:", errno)
	}
}

// TestPowerCut pulls while the power goes. What was acknowledged before is there
// afterwards, and names and bytes agree.
func TestPowerCut(t *testing.T) {
	d := newDisk(t, "2G")
	r := newRigOn(t, d.dir)
	small, medium := &imageWorker{r: r, name: r.images.small}, &imageWorker{r: r, name: r.images.medium}
	for n := range max(1, *rounds/2) {
		rnd := rand.New(rand.NewPCG(*seed, uint64(n)))
		delay := time.Duration(50+rnd.IntN(1500)) * time.Millisecond
		time.AfterFunc(delay, func() {
			r.killed.Store(true)
			d.cut()
		})
		r.round(rnd, "daemon", delay, small.once, medium.once)
		d.unmount()
		d.mount()
		r.start()
		small.lookAt()
		medium.lookAt()
		r.stop(syscall.SIGTERM)
		r.fsck()
		r.start()
		if t.Failed() {
			t.Fatalf("round %d of seed %d: cut after %s", n, *seed, delay)
		}
	}
}

// TestFullDisk fills the disk: what needs room says so, what doesn't goes on, and
// nothing is lost.
func TestFullDisk(t *testing.T) {
	d := newDisk(t, "64M")
	r := newRigOn(t, d.dir)
	r.must("images", "pull", "--plain-http", r.images.small)
	for _, ss := range []string{"overlayfs", "erofs"} {
		out, code := r.ctr("images", "pull", "--plain-http", "--snapshotter", ss, r.images.medium)
		if code == 0 || !strings.Contains(out, "no space left on device") {
			t.Errorf("a pull that doesn't fit, %s: exit %d\n%s", ss, code, out)
		}
	}
	ballast := filepath.Join(d.dir, "ballast")
	exec.Command("dd", "if=/dev/zero", "of="+ballast, "bs=64k").Run() // until it is full
	for _, args := range [][]string{
		{"images", "pull", "--plain-http", r.images.base},
		{"images", "pull", "--plain-http", r.images.medium},
		{"run", "--rm", r.images.small, r.tag + "-full", "/bin/true"},
	} {
		out, code := r.ctr(args...)
		if code != 0 && !strings.Contains(out, "no space left on device") {
			t.Errorf("ctr %s on a full disk: exit %d\n%s", strings.Join(args, " "), code, out)
		}
		if code == 124 {
			t.Errorf("ctr %s hangs on a full disk", strings.Join(args, " "))
		}
	}
	if names := r.lines("images", "ls", "-q"); len(names) == 0 || !strings.Contains(fmt.Sprint(names), r.images.small) {
		t.Errorf("images on a full disk: %s", names)
	}
	r.stop(syscall.SIGKILL)
	r.start() // on a disk that is still full
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r.must("run", "--rm", r.images.small, r.tag+"-room", "/bin/true")
	r.stop(syscall.SIGTERM)
	r.fsck()
	r.start()
}

// TestReadOnlyDisk starts on a disk that can't be written: a clear sentence, not
// a half-working daemon; and nothing is lost by it.
func TestReadOnlyDisk(t *testing.T) {
	d := newDisk(t, "128M")
	r := newRigOn(t, d.dir)
	r.must("images", "pull", "--plain-http", r.images.small)
	r.stop(syscall.SIGTERM)
	d.unmount()
	d.mount("ro")
	out, err := exec.Command(filepath.Join(r.bin, "orlopd"), "--root", r.root, "--state", r.path("state2")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "read-only file system") {
		t.Errorf("on a read-only disk: %v\n%s", err, out)
	}
	if lines := strings.Count(strings.TrimSpace(string(out)), "\n"); lines > 3 {
		t.Errorf("not a sentence:\n%s", out)
	}
	d.unmount()
	d.mount()
	r.start()
	r.must("run", "--rm", r.images.small, r.tag+"-again", "/bin/true")
}

// TestBrokenDisk lets the disk fail under a running daemon: every operation that
// needs it fails and says why, and after a repair nothing is lost.
func TestBrokenDisk(t *testing.T) {
	d := newDisk(t, "256M")
	r := newRigOn(t, d.dir)
	r.must("images", "pull", "--plain-http", r.images.small)
	syscall.Sync()
	d.cut()
	for _, args := range [][]string{
		{"images", "pull", "--plain-http", r.images.medium},
		{"images", "tag", r.images.small, "other:1"},
		{"run", "--rm", r.images.small, r.tag + "-broken", "/bin/true"},
	} {
		out, code := r.ctr(args...)
		if code == 0 || code == 124 || !strings.Contains(out, "input/output error") {
			t.Errorf("ctr %s on a broken disk: exit %d\n%s", strings.Join(args, " "), code, out)
		}
	}
	r.stop(syscall.SIGKILL)
	d.unmount()
	d.mount()
	r.start()
	r.must("run", "--rm", r.images.small, r.tag+"-mended", "/bin/true")
	r.stop(syscall.SIGTERM)
	r.fsck()
	r.start()
}

// TestMissingFeature hides overlayfs from the daemon, as a kernel without it would:
// it starts, says in a sentence what is missing, and runs containers without.
func TestMissingFeature(t *testing.T) {
	r := newRig(t)
	r.stop(syscall.SIGTERM)
	all, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	less := r.path("filesystems")
	if err := os.WriteFile(less, []byte(strings.ReplaceAll(string(all), "\toverlay\n", "\tnothing\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	r.wrap = []string{"unshare", "-m", "sh", "-c", `mount --bind "$0" /proc/filesystems && exec "$@"`, less}
	r.start()
	out := r.must("plugins", "ls", "-d", "id==overlayfs")
	if !strings.Contains(out, "the kernel has no overlay file system") {
		t.Errorf("the reason isn't told:\n%s", out)
	}
	r.must("images", "pull", "--plain-http", "--snapshotter", "native", r.images.small)
	r.must("run", "--rm", "--snapshotter", "native", r.images.small, r.tag+"-native", "/bin/true")
	out, code := r.ctr("run", "--rm", "--snapshotter", "overlayfs", r.images.small, r.tag+"-none", "/bin/true")
	if code == 0 || !strings.Contains(out, "overlayfs") {
		t.Errorf("a snapshotter that isn't there: exit %d\n%s", code, out)
	}
	r.stop(syscall.SIGTERM)
	r.wrap = nil
	r.start()
}
