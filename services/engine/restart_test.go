package engine

import (
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"
)

func TestNextRestart(t *testing.T) {
	for _, tt := range []struct {
		name    string
		policy  string
		most    int
		before  restarts
		exit    int
		ran     time.Duration
		want    bool
		pause   time.Duration
		counted int
	}{
		{"none", "no", 0, restarts{}, 1, 0, false, 0, 0},
		{"always, first", "always", 0, restarts{}, 0, 0, true, 100 * time.Millisecond, 1},
		{"doubles", "always", 0, restarts{Count: 1, Pause: 100 * time.Millisecond}, 0, 0, true, 200 * time.Millisecond, 2},
		{"has a bound", "unless-stopped", 0, restarts{Count: 12, Pause: 50 * time.Second}, 1, time.Second, true, time.Minute, 13},
		{"begins anew after a steady run", "always", 0, restarts{Count: 5, Pause: time.Minute}, 1, 10 * time.Second, true, 100 * time.Millisecond, 6},
		{"stopped by hand", "always", 0, restarts{Stopped: true}, 137, 0, false, 0, 0},
		{"on failure, but it did not fail", "on-failure", 0, restarts{}, 0, 0, false, 0, 0},
		{"on failure", "on-failure", 2, restarts{Count: 1, Pause: 100 * time.Millisecond}, 1, 0, true, 200 * time.Millisecond, 2},
		{"on failure, but often enough", "on-failure", 2, restarts{Count: 2, Pause: 200 * time.Millisecond}, 1, 0, false, 200 * time.Millisecond, 2},
	} {
		r := tt.before
		p := api.RestartPolicy{Name: api.RestartPolicyMode(tt.policy), MaximumRetryCount: tt.most}
		if got := r.next(p, tt.exit, tt.ran); got != tt.want || r.Pause != tt.pause || r.Count != tt.counted {
			t.Errorf("%s: %v, pause %s, count %d; want %v, %s, %d", tt.name, got, r.Pause, r.Count, tt.want, tt.pause, tt.counted)
		}
	}
}

// Each container comes after those it depends on, else by age; a circle ends somewhere.
func TestOrderOfStarts(t *testing.T) {
	e := &Engine{byID: map[string]*Container{}, byName: map[string]*Container{}}
	add := func(name string, age int, h api.HostConfig) {
		h.RestartPolicy.Name = api.RestartPolicyAlways
		c := &Container{ID: name, rec: record{Name: name, Config: &api.Config{}, HostConfig: &h, State: State{StartedAt: now()}}}
		c.stored.Created = time.Unix(int64(-age), 0)
		e.byID[c.ID], e.byName[name] = c, c
	}
	add("web", 9, api.HostConfig{NetworkMode: "container:net"})
	add("net", 1, api.HostConfig{})
	add("old", 8, api.HostConfig{})
	add("files", 2, api.HostConfig{VolumesFrom: []string{"data:ro"}, Links: []string{"/old:alias"}})
	add("data", 0, api.HostConfig{PidMode: "container:loop"})
	add("loop", 7, api.HostConfig{IpcMode: "container:data"})
	got := ""
	for _, c := range e.inOrder() {
		got += c.ID + " "
	}
	if want := "net web old data loop files "; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
}
