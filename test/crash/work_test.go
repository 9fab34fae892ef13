package crash

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Each worker owns what it changes, so that what must be there afterwards is
// known exactly.

// imageWorker pulls and removes one image.
type imageWorker struct {
	r       *rig
	name    string
	present bool // the last pull or removal was acknowledged
	known   bool
}

func (w *imageWorker) once(rnd *rand.Rand) {
	if w.known && w.present && rnd.IntN(3) > 0 {
		w.settle(false, "images", "rm", "--sync", w.name)
		return
	}
	w.settle(true, "images", "pull", "--plain-http", "--snapshotter", snapshotter(rnd), w.name)
}

func snapshotter(rnd *rand.Rand) string { return []string{"overlayfs", "erofs"}[rnd.IntN(2)] }

// settle runs a command after which the image is there or not.
func (w *imageWorker) settle(present bool, args ...string) {
	w.known = false
	out, code := w.r.ctr(args...)
	if code == 0 {
		w.present, w.known = present, true
	} else if !w.r.killed.Load() {
		w.r.t.Errorf("ctr %s: exit %d while the daemon runs\n%s", strings.Join(args, " "), code, out)
	}
}

// task is a container whose start was acknowledged.
type task struct {
	id    string
	code  int       // how it ends by itself
	early time.Time // when, at the earliest
	until time.Time // and at the latest
}

// longLife is that of tasks that end by a signal.
const longLife = time.Hour

// taskWorker runs containers of the base image.
type taskWorker struct {
	r     *rig
	name  string
	n     int
	mu    sync.Mutex
	tasks []task
}

func (w *taskWorker) once(rnd *rand.Rand) {
	w.n++
	switch rnd.IntN(5) {
	case 0:
		w.foreground(rnd.IntN(100))
	case 1, 2:
		life := []time.Duration{0, 300 * time.Millisecond, 1500 * time.Millisecond, longLife}[rnd.IntN(4)]
		w.detached(life, rnd.IntN(100))
	case 3:
		w.exec(rnd)
	case 4:
		w.remove(rnd)
	}
}

func (w *taskWorker) id() string { return fmt.Sprintf("%s-%s-%d", w.r.tag, w.name, w.n) }

// expect runs ctr and wants an exit code, unless the daemon is killed meanwhile.
func (w *taskWorker) expect(want int, args ...string) bool {
	out, code := w.r.ctr(args...)
	if code != want && !w.r.killed.Load() {
		w.r.t.Errorf("ctr %s: exit %d, want %d, while the daemon runs\n%s", strings.Join(args, " "), code, want, out)
	}
	return code == want
}

func (w *taskWorker) foreground(code int) {
	w.expect(code, "run", "--rm", w.r.images.base, w.id(), "/bin/sh", "-c", "exit "+strconv.Itoa(code))
}

func (w *taskWorker) detached(life time.Duration, code int) {
	script := fmt.Sprintf("sleep %.1f; exit %d", life.Seconds(), code)
	began := time.Now()
	if !w.expect(0, "run", "-d", w.r.images.base, w.id(), "/bin/sh", "-c", script) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tasks = append(w.tasks, task{w.id(), code, began.Add(life), time.Now().Add(life)})
}

// pick returns a task that lives long.
func (w *taskWorker) pick(rnd *rand.Rand) (int, bool) {
	var long []int
	for i, t := range w.tasks {
		if time.Until(t.until) > longLife/2 {
			long = append(long, i)
		}
	}
	if len(long) == 0 {
		return 0, false
	}
	return long[rnd.IntN(len(long))], true
}

func (w *taskWorker) exec(rnd *rand.Rand) {
	i, ok := w.pick(rnd)
	if !ok {
		return
	}
	code := rnd.IntN(100)
	w.expect(code, "tasks", "exec", "--exec-id", "e-"+w.id(), w.tasks[i].id, "/bin/sh", "-c", "exit "+strconv.Itoa(code))
}

func (w *taskWorker) remove(rnd *rand.Rand) {
	i, ok := w.pick(rnd)
	if !ok {
		return
	}
	id := w.tasks[i].id
	w.tasks = append(w.tasks[:i], w.tasks[i+1:]...) // from here on nothing is promised
	w.r.ctr("tasks", "rm", "-f", id)
	w.expect(0, "containers", "rm", id)
}
