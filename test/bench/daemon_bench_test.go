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

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/orlop/orlop/test/e2e"
)

// daemon is a private one, without images: containers run from a folder.
type daemon struct {
	containers containers.ContainersClient
	tasks      tasks.TasksClient
	spec       *anypb.Any
}

func startDaemon(b *testing.B) *daemon {
	bundle, s := runtimeBundle(b)
	bin, err := filepath.Abs("../../bin/orlopd")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		b.Skip("make build first")
	}
	state, err := os.MkdirTemp("/run", "orlop-bench-") // where states live: in memory
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "--root", b.TempDir(), "--state", state)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Signal(os.Interrupt); cmd.Wait(); os.RemoveAll(state) })
	sock := filepath.Join(state, "orlopd.sock")
	if !e2e.Listens("unix", sock) {
		b.Fatal("the daemon does not come up")
	}
	conn, err := grpc.NewClient("unix://"+sock, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	s.Root.Path = filepath.Join(bundle, "rootfs")
	data, err := json.Marshal(s)
	if err != nil {
		b.Fatal(err)
	}
	return &daemon{containers.NewContainersClient(conn), tasks.NewTasksClient(conn), &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: data}}
}

// step is one call of a container's life.
type step struct {
	name string
	call func(ctx context.Context, id string) error
}

func (d *daemon) steps() []step {
	return []step{
		{"record", func(ctx context.Context, id string) error {
			_, err := d.containers.Create(ctx, &containers.CreateContainerRequest{Container: &containers.Container{
				ID: id, Spec: d.spec, Runtime: &containers.Container_Runtime{Name: "io.containerd.orlop.v1"}}})
			return err
		}},
		{"create", func(ctx context.Context, id string) error {
			_, err := d.tasks.Create(ctx, &tasks.CreateTaskRequest{ContainerID: id})
			return err
		}},
		{"start", func(ctx context.Context, id string) error {
			_, err := d.tasks.Start(ctx, &tasks.StartRequest{ContainerID: id})
			return err
		}},
		{"wait", func(ctx context.Context, id string) error {
			r, err := d.tasks.Wait(ctx, &tasks.WaitRequest{ContainerID: id})
			if err == nil && r.ExitStatus != 0 {
				err = fmt.Errorf("exit %d", r.ExitStatus)
			}
			return err
		}},
		{"delete", func(ctx context.Context, id string) error {
			_, err := d.tasks.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
			return err
		}},
		{"forget", func(ctx context.Context, id string) error {
			_, err := d.containers.Delete(ctx, &containers.DeleteContainerRequest{ID: id})
			return err
		}},
	}
}

// once takes one container from nothing to nothing, as an engine does, and adds the
// time of each step to took.
func (d *daemon) once(id string, took []atomic.Int64) error {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "containerd-namespace", "bench")
	for i, s := range d.steps() {
		began := time.Now()
		if err := s.call(ctx, id); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		took[i].Add(int64(time.Since(began)))
	}
	return nil
}

func (d *daemon) report(b *testing.B, took []atomic.Int64) {
	for i, s := range d.steps() {
		b.ReportMetric(float64(took[i].Load())/float64(b.N)/1e6, "ms-"+s.name)
	}
}

// BenchmarkDaemon is what an engine on top pays for a container, from nothing to
// nothing, over one connection.
func BenchmarkDaemon(b *testing.B) {
	d := startDaemon(b)
	took := make([]atomic.Int64, len(d.steps()))
	n := 0
	for b.Loop() {
		n++
		if err := d.once(fmt.Sprintf("one-%d", n), took); err != nil {
			b.Fatal(err)
		}
	}
	d.report(b, took)
}

// BenchmarkDaemon8 is the throughput of eight at once.
func BenchmarkDaemon8(b *testing.B) {
	d := startDaemon(b)
	took := make([]atomic.Int64, len(d.steps()))
	var next atomic.Int64
	began := time.Now()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := d.once(fmt.Sprintf("eight-%d", i), took); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "containers/s")
	d.report(b, took)
}
