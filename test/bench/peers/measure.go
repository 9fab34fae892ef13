package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// why is an error in one line: the last that a failed command said.
func why(err error) string {
	text := err.Error()
	if f := (*failure)(nil); errors.As(err, &f) && f.said != "" {
		text = f.said[strings.LastIndexByte(f.said, '\n')+1:]
	}
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// open starts one engine on a disk of its own.
func (b *bench) open(dir string, start func(*bench, string) (*engine, error)) (*engine, func() error, error) {
	d, err := newDisk(dir)
	if err != nil {
		return nil, nil, err
	}
	e, err := start(b, dir)
	if err != nil {
		return nil, nil, errors.Join(err, d.remove())
	}
	return e, func() error { return errors.Join(e.stop(), d.remove()) }, nil
}

// rounds measures one thing of several, in turn, and adds their rows. A thing that
// fails gets a note and no more rounds.
func (b *bench) round(what, budget string, names []string, own func(int) bool, once func(i, round int) (time.Duration, error)) {
	rows := make([]row, len(names))
	for i, name := range names {
		rows[i] = row{what: what, who: name, unit: "ms", own: own(i)}
		if rows[i].own {
			rows[i].budget = budget
		}
	}
	for n := -1; n < b.rounds; n++ { // the first is for caches to be filled
		for i := range rows {
			if rows[i].note != "" {
				continue
			}
			took, err := once(i, n+1)
			if err != nil {
				rows[i].note, rows[i].values = why(err), nil
			} else if n >= 0 {
				rows[i].values = append(rows[i].values, float64(took)/1e6)
			}
		}
	}
	b.table.rows = append(b.table.rows, rows...)
}

func (b *bench) engineRound(what, budget string, all []*engine, once func(e *engine, round int) (time.Duration, error)) {
	var names []string
	for _, e := range all {
		names = append(names, e.name)
	}
	b.round(what, budget, names, func(i int) bool { return all[i].own },
		func(i, n int) (time.Duration, error) { return once(all[i], n) })
}

// starts measures true from the client's start to its end.
func (b *bench) starts() error {
	if err := b.runtimes(); err != nil {
		return err
	}
	return b.withEngines("run true", func(all []*engine) error {
		b.engineRound("run true", "≤ 15 ms", all, func(e *engine, n int) (time.Duration, error) {
			return command(e.env, e.run(b.registry.small, fmt.Sprintf("s%d", n))...)
		})
		return nil
	})
}

// execs measures true in a running container.
func (b *bench) execs() error {
	return b.withEngines("exec true", func(all []*engine) error {
		var ready []*engine
		for _, e := range all {
			defer e.remove("held")
			if _, err := command(e.env, e.detached(b.registry.small, "held")...); err != nil {
				b.table.add(row{what: "exec true", who: e.name, note: why(err)})
				continue
			}
			ready = append(ready, e)
		}
		b.engineRound("exec true", "≤ 8 ms", ready, func(e *engine, n int) (time.Duration, error) {
			return command(e.env, e.exec("held", fmt.Sprintf("e%d", n))...)
		})
		return nil
	})
}

// remove takes a container away; what it says of one that isn't there is nothing new.
func (e *engine) remove(id string) error {
	var errs []error
	for _, args := range e.rm(id) {
		_, err := command(e.env, args...)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// manyStarts is how many containers are started, by how many clients at once.
const manyStarts, clients = 50, 8

// many measures how many containers are started a second, eight at once.
func (b *bench) many() error {
	return b.withEngines("50 × run true, 8 at once", func(all []*engine) error {
		for _, e := range all {
			r := row{what: "50 × run true, 8 at once", who: e.name, unit: "/s", more: true, own: e.own}
			if e.own {
				r.budget = "≥ 200 /s"
			}
			for n := range max(1, b.rounds/5) {
				took, err := b.burst(e, n)
				if err != nil {
					r.note, r.values = why(err), nil
					break
				}
				r.values = append(r.values, manyStarts/took.Seconds())
			}
			b.table.add(r)
		}
		return nil
	})
}

func (b *bench) burst(e *engine, round int) (time.Duration, error) {
	var next atomic.Int64
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	began := time.Now()
	for range clients {
		wg.Go(func() {
			for i := next.Add(1); i <= manyStarts; i = next.Add(1) {
				if _, err := command(e.env, e.run(b.registry.small, fmt.Sprintf("m%d-%d", round, i))...); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began), failed
}

// settle is how long a daemon is left alone before its memory is read.
const settle = 2 * time.Second

// memory measures idle daemons, and what holds 50 running containers.
func (b *bench) memory() error {
	return b.withEngines("memory", func(all []*engine) error {
		time.Sleep(settle)
		for _, e := range all {
			if e.pid == 0 {
				continue
			}
			r := row{what: "daemon idle, PSS", who: e.name, unit: "MiB", own: e.own}
			if e.own {
				r.budget = "≤ 30 MiB"
			}
			m, err := pss(e.pid)
			if err != nil {
				return err
			}
			r.values = []float64{m}
			b.table.add(r)
		}
		for _, e := range all {
			if err := b.shims(e); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) shims(e *engine) error {
	r := row{what: "a container's share of shims, PSS, at 50", who: e.name, unit: "MiB", own: e.own}
	if e.own {
		r.budget = "≤ 0.2 MiB"
	}
	const running = 50
	defer func() {
		for i := range running {
			e.remove(fmt.Sprintf("c%d", i))
		}
	}()
	for i := range running {
		if _, err := command(e.env, e.detached(b.registry.small, fmt.Sprintf("c%d", i))...); err != nil {
			r.note = why(err)
			b.table.add(r)
			return nil
		}
	}
	time.Sleep(settle)
	var sum float64
	found := holders(e.shim, e.dir)
	for _, pid := range found {
		if m, err := pss(pid); err == nil {
			sum += m
		}
	}
	r.values = []float64{sum / running}
	r.who = fmt.Sprintf("%s (%d shims)", e.name, len(found))
	b.table.add(r)
	return nil
}

// pulls measures the large image from a registry to layers on the disk. Every
// pull has a daemon and a disk of its own.
func (b *bench) pulls() error {
	var names []string
	for _, m := range makers {
		names = append(names, m.name)
	}
	saved := b.rounds
	b.rounds = max(1, saved/3)
	defer func() { b.rounds = saved }()
	b.round("pull + unpack, 290 MB", "≤ 1100 ms", names, func(i int) bool { return i == 0 }, func(i, n int) (took time.Duration, err error) {
		e, end, err := b.open(b.path(fmt.Sprintf("p%d-%d", i, n)), makers[i].start)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, end()) }()
		return command(e.env, e.pull(b.registry.large)...)
	})
	return nil
}
