// Package bench measures Orlop beside its peers on the same machine. Benchmarks
// print ratios; they are no tests.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime"
)

// runtimeBundle makes a bundle whose program is busybox's true.
func runtimeBundle(b *testing.B) (string, *specs.Spec) {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		b.Skip("needs busybox-static")
	}
	dir := b.TempDir()
	os.Chmod(dir, 0o755)
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc"} {
		os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755)
	}
	for _, name := range []string{"true", "sleep"} {
		if err := os.WriteFile(filepath.Join(dir, "rootfs/bin", name), box, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	s := runtime.ExampleSpec()
	s.Version = "1.0.2" // what old peers know
	s.Process.Terminal = false
	s.Process.Args = []string{"true"}
	profile, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		b.Fatal(err)
	}
	s.Linux.Seccomp = profile
	j, _ := json.Marshal(s)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), j, 0o644); err != nil {
		b.Fatal(err)
	}
	return dir, s
}

func openBench(b *testing.B) *runtime.Runtime {
	dir, err := os.MkdirTemp("/run", "orlop-bench-")
	if err != nil {
		b.Fatal(err)
	}
	r, err := runtime.Open(dir, runtime.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.Close(); os.RemoveAll(dir) })
	return r
}

// once takes one container from nothing to nothing.
func once(r *runtime.Runtime, id, dir string, s *specs.Spec, reaped *atomic.Int64) error {
	ctx := context.Background()
	began := time.Now()
	c, err := r.Create(ctx, runtime.CreateConfig{ID: id, Bundle: dir, Spec: s})
	if err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	st, err := c.Wait(ctx)
	if err != nil || st.Code != 0 {
		return fmt.Errorf("exit %d, %v", st.Code, err)
	}
	reaped.Add(int64(time.Since(began)))
	return c.Delete(ctx, false)
}

// BenchmarkEmbedded is what the shim pays: create to reaped, and with deletion.
func BenchmarkEmbedded(b *testing.B) {
	dir, s := runtimeBundle(b)
	r := openBench(b)
	var reaped atomic.Int64
	n := 0
	for b.Loop() {
		n++
		if err := once(r, fmt.Sprintf("bench-%d", n), dir, s, &reaped); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(reaped.Load())/float64(n)/1e6, "ms/create-to-reaped")
}

// BenchmarkEmbedded8 is the throughput of eight at once.
func BenchmarkEmbedded8(b *testing.B) {
	dir, s := runtimeBundle(b)
	r := openBench(b)
	var reaped, next atomic.Int64
	began := time.Now()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := once(r, fmt.Sprintf("bench8-%d", i), dir, s, &reaped); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "containers/s")
}

// BenchmarkExec runs true in a running container.
func BenchmarkExec(b *testing.B) {
	dir, s := runtimeBundle(b)
	r := openBench(b)
	ctx := context.Background()
	s.Process.Args = []string{"sleep", "1000"}
	c, err := r.Create(ctx, runtime.CreateConfig{ID: "bench-exec", Bundle: dir, Spec: s})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Delete(ctx, true)
	if err := c.Start(ctx); err != nil {
		b.Fatal(err)
	}
	p := *s.Process
	p.Args = []string{"true"}
	for b.Loop() {
		proc, err := c.Exec(ctx, runtime.ExecConfig{Process: &p})
		if err != nil {
			b.Fatal(err)
		}
		proc.Wait(ctx)
		proc.Close()
	}
}

// BenchmarkCommands runs the command lines of this runtime and of its peers.
func BenchmarkCommands(b *testing.B) {
	dir, _ := runtimeBundle(b)
	own := filepath.Join(b.TempDir(), "orlop-runtime")
	build := exec.Command("go", "build", "-o", own, "github.com/orlop/orlop/cmd/orlop-runtime")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	var base float64
	for _, program := range []string{own, "crun", "runc"} {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		b.Run(filepath.Base(program), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				cmd := exec.Command(path, "run", "--bundle", dir, fmt.Sprintf("bench-cmd-%d", i))
				if program == "crun" { // it refuses hybrid hosts; leaving costs it about 2 ms
					cmd = exec.Command("unshare", "-m", "sh", "-c", "umount /sys/fs/cgroup/unified; exec \"$0\" \"$@\"")
					cmd.Args = append(cmd.Args, path, "run", "--bundle", dir, fmt.Sprintf("bench-cmd-%d", i))
				}
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Skipf("%v: %s", err, out)
				}
			}
			each := float64(b.Elapsed()) / float64(b.N)
			if base == 0 {
				base = each
			}
			b.ReportMetric(each/base, "x-orlop")
		})
	}
}
