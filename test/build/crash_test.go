package build

import (
	"flag"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	rounds = flag.Int("rounds", 5, "how often the daemon is killed")
	seed   = flag.Uint64("seed", 1, "when it is killed")
)

// killedScene has something of all that a daemon can be killed in: a pull, a context, a
// step that writes, caches, secrets, and the image.
const killedScene = `secret token=hush
-- Dockerfile --
FROM @REGISTRY@/box:latest AS one
COPY . /all
RUN --mount=type=cache,target=/cache,id=killed echo x >> /cache/log && sleep 0.1
RUN --mount=type=secret,id=token cat /run/secrets/token > /dev/null && sleep 0.2 && echo one > /one
FROM box AS two
RUN --mount=type=bind,target=/src --mount=type=tmpfs,target=/fast cat /src/large > /copy && sleep 0.2
FROM box
COPY --from=one /one /one
COPY --link --from=two /copy /copy
ADD @SERVER@/git/repo.git /repo
RUN sleep 0.1 && echo done > /done
`

// TestKilledDaemon kills the daemon in the middle of builds. The next one must leave
// nothing of them, and build.
func TestKilledDaemon(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.write("killed.txtar", killedScene)
	s := r.readScene(t, r.path("killed.txtar"))
	if err := furnish("big", filepath.Join(s.dir, "large"), []string{"4000000"}); err != nil {
		t.Fatal(err)
	}
	for n := range *rounds {
		rnd := rand.New(rand.NewPCG(*seed, uint64(n)))
		delay := time.Duration(50+rnd.IntN(2000)) * time.Millisecond
		var clients sync.WaitGroup
		for _, d := range doors[:2] {
			clients.Go(func() { d.build(r, s, "killed:"+d.name) })
		}
		time.Sleep(delay)
		r.stop(syscall.SIGKILL)
		clients.Wait()
		r.start()
		r.settled(t)
		if _, out, err := doors[n%2].build(r, s, "after:latest"); err != nil {
			t.Errorf("the build after: %v\n%s", err, out)
		}
		if t.Failed() {
			t.Fatalf("round %d of seed %d: killed after %s", n, *seed, delay)
		}
	}
	r.emptied(t)
}

// settled wants nothing to be left of builds.
func (r *rig) settled(t *testing.T) {
	t.Helper()
	var left []string
	for range 100 {
		left = r.left()
		if leases := strings.Fields(r.run("ctr", "-a", r.path("state", "orlopd.sock"), "-n", "default", "leases", "ls", "-q")); len(r.temporary(leases)) > 0 {
			left = append(left, "leases "+strings.Join(r.temporary(leases), " "))
		}
		if ingests, _ := filepath.Glob(r.path("root", "io.containerd.content.v1.content", "ingest", "*")); len(ingests) > 0 {
			left = append(left, ingests...)
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("left of builds:\n%s", strings.Join(left, "\n"))
}

// temporary are the leases that are held while something is under way.
func (r *rig) temporary(ids []string) []string {
	list := r.run("ctr", "-a", r.path("state", "orlopd.sock"), "-n", "default", "leases", "ls")
	var found []string
	for line := range strings.Lines(list) {
		for _, id := range ids {
			if strings.HasPrefix(line, id+" ") && strings.Contains(line, "buildkit/lease.temporary") {
				found = append(found, strings.TrimSpace(line))
			}
		}
	}
	return found
}

// emptied removes images and cache, after which no snapshot or blob is there.
func (r *rig) emptied(t *testing.T) {
	t.Helper()
	r.docker("builder", "prune", "-af")
	r.docker("buildx", "history", "rm", "--all")
	if ids := strings.Fields(r.docker("images", "-aq", "--no-trunc")); len(ids) > 0 {
		r.docker(append([]string{"rmi", "-f"}, ids...)...)
	}
	var left []string
	for range 100 {
		left = nil
		for _, pattern := range []string{"io.containerd.content.v1.content/blobs/*/*", "io.containerd.content.v1.content/ingest/*", "io.containerd.snapshotter.v1.*/snapshots/*"} {
			found, _ := filepath.Glob(r.path("root", pattern))
			left = append(left, found...)
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	why := ""
	for _, ns := range []string{"default", "default_history"} {
		for _, kind := range []string{"leases", "images", "content"} {
			why += r.run("ctr", "-a", r.path("state", "orlopd.sock"), "-n", ns, kind, "ls")
		}
	}
	t.Errorf("left after everything was removed:\n%s\n%s", strings.Join(left, "\n"), why)
}
