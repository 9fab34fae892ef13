package crash

import (
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	rounds = flag.Int("rounds", 5, "how often the daemon is killed")
	seed   = flag.Uint64("seed", 1, "what the rounds are made of")
)

// cleanEvery is after how many rounds everything is removed and looked for.
const cleanEvery = 4

func TestKilledDaemon(t *testing.T) {
	r := newRig(t)
	small, medium := &imageWorker{r: r, name: r.images.small}, &imageWorker{r: r, name: r.images.medium}
	one, two := &taskWorker{r: r, name: "a"}, &taskWorker{r: r, name: "b"}
	for n := range *rounds {
		if n%cleanEvery == 0 {
			r.must("images", "pull", "--plain-http", r.images.base)
		}
		rnd := rand.New(rand.NewPCG(*seed, uint64(n)))
		kind := []string{"daemon", "daemon", "daemon and shim", "shim", "term"}[rnd.IntN(5)]
		delay := time.Duration(20+rnd.IntN(1500)) * time.Millisecond
		shimKilled := r.round(rnd, kind, delay, small.once, medium.once, one.once, two.once)
		r.start()
		time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
		small.lookAt()
		medium.lookAt()
		one.lookAt(shimKilled)
		two.lookAt(shimKilled)
		r.must("run", "--rm", r.images.base, r.tag+"-after", "/bin/true")
		if n%cleanEvery == cleanEvery-1 {
			r.clean()
			*small, *medium = imageWorker{r: r, name: small.name}, imageWorker{r: r, name: medium.name}
			one.tasks, two.tasks = nil, nil
		}
		r.stop(syscall.SIGTERM)
		if n%cleanEvery == cleanEvery-1 {
			r.noShims()
		}
		r.fsck(slices.Concat(one.tasks, two.tasks)...)
		r.start()
		if t.Failed() {
			t.Fatalf("round %d of seed %d: %s killed after %s", n, *seed, kind, delay)
		}
	}
}

// round lets the workers work, kills, and waits for the clients to end. It
// reports whether a shim was killed.
func (r *rig) round(rnd *rand.Rand, kind string, delay time.Duration, work ...func(*rand.Rand)) (shimKilled bool) {
	var wg sync.WaitGroup
	for _, once := range work {
		own := rand.New(rand.NewPCG(rnd.Uint64(), rnd.Uint64()))
		wg.Go(func() {
			for !r.killed.Load() {
				once(own)
			}
		})
	}
	time.Sleep(delay)
	switch kind {
	case "daemon and shim":
		r.killed.Store(true) // what a shim's end does to its clients is no error
		shimKilled = r.killShim(rnd.IntN)
		r.stop(syscall.SIGKILL)
	case "shim":
		r.killed.Store(true)
		shimKilled = r.killShim(rnd.IntN)
		time.Sleep(time.Duration(rnd.IntN(500)) * time.Millisecond) // for the daemon to find another
		r.stop(syscall.SIGTERM)
	case "term":
		r.stop(syscall.SIGTERM)
	default:
		r.stop(syscall.SIGKILL)
	}
	wg.Wait()
	return shimKilled
}
