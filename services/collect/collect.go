// Package collect decides when the collector runs: soon after something was
// deleted, but not once for each of many deletions. It keeps nothing on disk.
package collect

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/containerd/log"

	"github.com/orlop/orlop/metadata"
)

// Config says when to collect.
type Config struct {
	// StartupDelay is how long after the start the first collection waits.
	StartupDelay time.Duration `toml:"startup_delay"`
	// ScheduleDelay is how long a deletion waits for others to come.
	ScheduleDelay time.Duration `toml:"schedule_delay"`
	// PauseThreshold is the largest share of the time that may be spent
	// collecting, above 0 and at most 0.5.
	PauseThreshold float64 `toml:"pause_threshold"`
}

// DefaultConfig is what an empty config means.
func DefaultConfig() Config {
	return Config{StartupDelay: 100 * time.Millisecond, ScheduleDelay: 200 * time.Millisecond, PauseThreshold: 0.02}
}

// Validate checks the values.
func (c Config) Validate() error {
	if c.PauseThreshold <= 0 || c.PauseThreshold > 0.5 {
		return fmt.Errorf("pause_threshold is %g, it must be above 0 and at most 0.5", c.PauseThreshold)
	}
	return nil
}

// Collector does the work.
type Collector interface {
	Collect(ctx context.Context) (metadata.Stats, error)
}

// Scheduler runs a collector in a goroutine of its own.
type Scheduler struct {
	cfg    atomic.Pointer[Config]
	db     Collector
	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// Start begins to schedule. Close ends it.
func Start(cfg Config, db Collector) *Scheduler {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Scheduler{db: db, wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	s.cfg.Store(&cfg)
	go s.run(ctx)
	return s
}

// Configure changes the config from the next collection on.
func (s *Scheduler) Configure(cfg Config) { s.cfg.Store(&cfg) }

// Changed tells of a committed write; a deletion asks for a collection.
func (s *Scheduler) Changed(deletion bool) {
	if !deletion {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close waits for a collection under way to stop at its next batch.
func (s *Scheduler) Close() error {
	s.cancel()
	<-s.done
	return nil
}

func (s *Scheduler) run(ctx context.Context) {
	defer close(s.done)
	pause := s.cfg.Load().StartupDelay
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return
			case <-s.wake:
			}
		}
		if !sleep(ctx, pause) {
			return
		}
		start := time.Now()
		if _, err := s.db.Collect(ctx); err != nil && ctx.Err() == nil {
			log.G(ctx).WithError(err).Warn("garbage collection")
		}
		cfg := s.cfg.Load()
		pause = max(cfg.ScheduleDelay, time.Duration(float64(time.Since(start))/cfg.PauseThreshold))
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
