package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"
)

func TestCheckOf(t *testing.T) {
	for _, tt := range []struct {
		config api.Config
		want   string
	}{
		{api.Config{}, "nil"},
		{api.Config{Healthcheck: &api.HealthConfig{Test: []string{"NONE"}}}, "nil"},
		{api.Config{Healthcheck: &api.HealthConfig{Interval: 1}}, "nil"},
		{api.Config{Healthcheck: &api.HealthConfig{Test: []string{"CMD", "a", "b c"}}}, `["a" "b c"] every 30s, 5s in 0s, 30s, 3`},
		{api.Config{Healthcheck: &api.HealthConfig{Test: []string{"CMD-SHELL", "a b"}, Interval: time.Second, Timeout: 2 * time.Second,
			StartPeriod: 3 * time.Second, StartInterval: 4 * time.Second, Retries: 5}}, `["/bin/sh" "-c" "a b"] every 1s, 4s in 3s, 2s, 5`},
		{api.Config{Shell: []string{"/ash", "-ec"}, Healthcheck: &api.HealthConfig{Test: []string{"CMD-SHELL", "a"}}},
			`["/ash" "-ec" "a"] every 30s, 5s in 0s, 30s, 3`},
	} {
		got := "nil"
		if k := checkOf(&tt.config); k != nil {
			got = fmt.Sprintf("%q every %s, %s in %s, %s, %d", k.args, k.interval, k.startInterval, k.startPeriod, k.timeout, k.retries)
		}
		if got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.config.Healthcheck, got, tt.want)
		}
	}
}

func TestMergeHealth(t *testing.T) {
	img := &api.HealthConfig{Test: []string{"CMD", "image"}, Interval: time.Second, Retries: 7}
	if got := mergeHealth(nil, img); got != img {
		t.Errorf("the image's check is %+v", got)
	}
	if got := mergeHealth(&api.HealthConfig{Test: []string{"NONE"}}, img); checkOf(&api.Config{Healthcheck: got}) != nil {
		t.Errorf("no check is %+v", got)
	}
	got := mergeHealth(&api.HealthConfig{Interval: time.Minute, Timeout: time.Hour}, img)
	if s := fmt.Sprint(*got); s != "{[CMD image] 1m0s 1h0m0s 0s 0s 7}" {
		t.Errorf("parts of both are %s", s)
	}
}

func TestValidHealth(t *testing.T) {
	for _, h := range []api.HealthConfig{
		{Interval: time.Microsecond}, {Timeout: -1}, {Retries: -1}, {Test: []string{"CMD"}}, {Test: []string{"CMD-SHELL", "a", "b"}},
		{Test: []string{"NONE", "x"}}, {Test: []string{"curl", "x"}}, {Test: []string{""}},
	} {
		if validHealth(&h) == nil {
			t.Errorf("%+v is taken", h)
		}
	}
}

// What results make of a container's health, a letter each: f fails, s succeeds.
func TestHealthAfter(t *testing.T) {
	for _, tt := range []struct{ results, want string }{
		{"", "starting 0"}, {"s", "healthy 0"}, {"ff", "starting 0"}, {"ffffffff", "unhealthy 3"}, {"sf", "healthy 1"},
		{"sff", "healthy 2"}, {"sfff", "unhealthy 3"}, {"sfffs", "healthy 0"}, {"ffffffs", "healthy 0"},
	} {
		began := now()
		k := &check{retries: 3, startPeriod: 5 * time.Second} // five failures are passed over
		h := firstHealth(&api.Config{Healthcheck: &api.HealthConfig{Test: []string{"CMD", "x"}}}, nil)
		for i, c := range tt.results {
			h = k.after(h, &api.HealthcheckResult{Start: began.Add(time.Duration(i) * time.Second), ExitCode: strings.IndexRune("sf", c)}, began)
		}
		if got := fmt.Sprintf("%s %d", h.Status, h.FailingStreak); got != tt.want || len(h.Log) != min(len(tt.results), 5) {
			t.Errorf("%q: %s with %d results, want %s", tt.results, got, len(h.Log), tt.want)
		}
	}
}
