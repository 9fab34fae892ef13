package plugins

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/graph"
)

// part is the value of every provider in these tests.
type part struct {
	id    string
	log   *journal
	close func(context.Context) error
}

func (p *part) Close(ctx context.Context) error {
	p.log.add("close " + p.id)
	if p.close != nil {
		return p.close(ctx)
	}
	return nil
}

type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

var (
	store  = NewKind[*part]("io.test.store.v1", Describe("keeps bytes"))
	snap   = NewKind[*part]("io.test.snapshotter.v1", Prefer("fast", "plain"))
	door   = NewKind[*part]("io.test.door.v1")
	nobody = NewKind[*part]("io.test.nobody.v1")
)

// world is a registry whose providers write what they do into a journal.
type world struct {
	Registry
	log   journal
	fails map[string]error
	delay map[string]time.Duration
	close map[string]func(context.Context) error
}

func newWorld() *world {
	return &world{fails: map[string]error{}, delay: map[string]time.Duration{}, close: map[string]func(context.Context) error{}}
}

func (w *world) provide(k Kind[*part], name string, declare ...func(*Scope)) {
	Provide(&w.Registry, k, name, func(s *Scope) Build[*part] {
		for _, d := range declare {
			d(s)
		}
		return func(ctx context.Context) (*part, error) {
			select {
			case <-time.After(w.delay[name]):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			if err := w.fails[name]; err != nil {
				return nil, err
			}
			w.log.add("build " + name)
			return &part{id: name, log: &w.log, close: w.close[name]}, nil
		}
	})
}

func one(k Kind[*part]) func(*Scope) { return func(s *Scope) { One(s, k) } }

func required(s *Scope) { s.Required() }

func (w *world) plan(t *testing.T, text string) (*Plan, error) {
	t.Helper()
	doc, err := config.Parse("orlop.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return w.Plan(doc, config.DefaultSettings())
}

func (w *world) start(t *testing.T, text string) (*System, error) {
	t.Helper()
	p, err := w.plan(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return p.Start(t.Context())
}

func TestStartsInOrderAndClosesInReverse(t *testing.T) {
	w := newWorld()
	w.provide(door, "grpc", one(snap))
	w.provide(snap, "plain", one(store))
	w.provide(store, "disk")
	sys, err := w.start(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := sys.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sys.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "build disk\nbuild plain\nbuild grpc\nclose grpc\nclose plain\nclose disk"
	if got := w.log.String(); got != want {
		t.Errorf("journal:\n%s\nwant:\n%s", got, want)
	}
}

func TestIndependentProvidersStartSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 5 {
			name := fmt.Sprintf("s%d", i)
			w.delay[name] = time.Second
			w.provide(store, name)
		}
		w.provide(door, "grpc", func(s *Scope) { After(s, store) })
		begin := time.Now()
		sys, err := w.start(t, "")
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("five providers of a second each took %v", took)
		}
		if !strings.HasSuffix(w.log.String(), "build grpc") {
			t.Errorf("order-only need was not kept:\n%s", w.log.String())
		}
		sys.Close(t.Context())
	})
}

func TestValuesReachTheirUsers(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk")
	w.provide(store, "other")
	w.provide(snap, "plain")
	var got []string
	Provide(&w.Registry, door, "grpc", func(s *Scope) Build[*part] {
		named, all := Named(s, store, "other"), All(s, store)
		maybe, none := Optional(s, snap), Optional(s, nobody)
		return func(context.Context) (*part, error) {
			got = append(got, named().id, fmt.Sprint(len(all()), all()["disk"].id))
			if p, ok := maybe(); ok {
				got = append(got, p.id)
			}
			if _, ok := none(); !ok {
				got = append(got, "none")
			}
			return &part{}, nil
		}
	})
	sys, err := w.start(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if s := strings.Join(got, ","); s != "other,2disk,plain,none" {
		t.Errorf("values: %s", s)
	}
	if p, ok := Get(sys, snap); !ok || p.id != "plain" {
		t.Errorf("Get = %v, %v", p, ok)
	}
	if _, ok := Get(sys, nobody); ok {
		t.Error("Get found a provider of a kind without any")
	}
}

func TestRefOutsideBuildPanics(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk")
	w.provide(door, "grpc", func(s *Scope) { One(s, store)() })
	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "outside of Build") {
			t.Errorf("panic %v", p)
		}
	}()
	w.plan(t, "")
}

func TestProvideTwicePanics(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk")
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	w.provide(store, "disk")
}

// statuses renders the graph's nodes that are not ok.
func statuses(g graph.Graph) string {
	var lines []string
	for _, n := range g.Nodes {
		if n.Status != graph.OK {
			lines = append(lines, fmt.Sprintf("%s %s: %s", n.ID, n.Status, n.Why))
		}
	}
	return strings.Join(lines, "\n")
}

func TestFailureOfAnOptionalProvider(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk", required)
	w.provide(snap, "plain")
	w.provide(door, "images", one(snap))
	w.provide(door, "list", func(s *Scope) { All(s, snap) })
	w.provide(door, "maybe", func(s *Scope) { Optional(s, snap) })
	w.fails["plain"] = errors.New("no disk")
	sys, err := w.start(t, "")
	if err != nil {
		t.Fatal(err)
	}
	want := `io.test.door.v1.images failed: needs io.test.snapshotter.v1.plain, which did not start: no disk
io.test.snapshotter.v1.plain failed: no disk`
	if got := statuses(sys.Graph()); got != want {
		t.Errorf("statuses:\n%s\nwant:\n%s", got, want)
	}
}

func TestSkipIsNoFailureAndTheNextIsTaken(t *testing.T) {
	w := newWorld()
	w.provide(snap, "fast")
	w.provide(snap, "plain")
	w.fails["fast"] = Skip("the kernel is too old")
	var got string
	Provide(&w.Registry, door, "grpc", func(s *Scope) Build[*part] {
		ref := One(s, snap)
		return func(context.Context) (*part, error) { got = ref().id; return &part{}, nil }
	})
	sys, err := w.start(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if got != "plain" {
		t.Errorf("took %q", got)
	}
	g := sys.Graph()
	n := g.Node("io.test.snapshotter.v1.fast")
	if n.Status != graph.Skipped || n.Why != "skip plugin: the kernel is too old" {
		t.Errorf("node %+v", n)
	}
	for _, e := range g.Edges {
		if e.Used != (e.To == "io.test.snapshotter.v1.plain") {
			t.Errorf("edge %+v", e)
		}
	}
}

func TestFailureOfARequiredProviderRollsBack(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk")
	w.provide(snap, "plain", one(store))
	w.provide(door, "grpc", one(snap), required)
	w.fails["grpc"] = errors.New("address in use")
	_, err := w.start(t, "")
	if err == nil || err.Error() != "io.test.door.v1.grpc: address in use" {
		t.Errorf("error %v", err)
	}
	if got, want := w.log.String(), "build disk\nbuild plain\nclose plain\nclose disk"; got != want {
		t.Errorf("journal:\n%s\nwant:\n%s", got, want)
	}
}

func TestFailureBelowARequiredProviderSaysWhy(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk")
	w.provide(door, "grpc", one(store), required)
	w.fails["disk"] = errors.New("full")
	_, err := w.start(t, "")
	want := "io.test.door.v1.grpc: needs io.test.store.v1.disk, which did not start: full"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestPanicIsAFailure(t *testing.T) {
	w := newWorld()
	Provide(&w.Registry, store, "disk", func(*Scope) Build[*part] {
		return func(context.Context) (*part, error) { panic("boom") }
	})
	sys, err := w.start(t, "")
	if err != nil {
		t.Fatal(err)
	}
	g := sys.Graph()
	if n := g.Nodes[0]; n.Status != graph.Failed || !strings.HasPrefix(n.Why, "panic in build: boom") {
		t.Errorf("node %+v", n)
	}
}

func TestCancelledStartRollsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.provide(store, "disk")
		w.provide(store, "slow")
		w.delay["slow"] = time.Hour
		p, err := w.plan(t, "")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if got := w.log.String(); got != "build disk\nclose disk" {
			t.Errorf("journal:\n%s", got)
		}
	})
}

func TestCloseHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		release := make(chan struct{})
		w.provide(store, "disk")
		w.provide(door, "grpc", one(store))
		w.close["grpc"] = func(context.Context) error { <-release; return nil }
		w.close["disk"] = func(context.Context) error { return errors.New("io") }
		sys, err := w.start(t, "")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err = sys.Close(t.Context())
		want := "close io.test.door.v1.grpc: left behind: not done within the limit\nclose io.test.store.v1.disk: io"
		if err == nil || err.Error() != want {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begin); took != CloseLimit {
			t.Errorf("took %v", took)
		}
		close(release)
	})
}

func TestOffTakesAlongWhatNeedsIt(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk", func(s *Scope) { s.Off("no path is set") })
	w.provide(door, "grpc", one(store))
	w.provide(door, "list", func(s *Scope) { All(s, store) })
	sys, err := w.start(t, "")
	if err != nil {
		t.Fatal(err)
	}
	want := `io.test.door.v1.grpc off: needs io.test.store.v1.disk, which is off: no path is set
io.test.store.v1.disk off: no path is set`
	if got := statuses(sys.Graph()); got != want {
		t.Errorf("statuses:\n%s\nwant:\n%s", got, want)
	}
}
