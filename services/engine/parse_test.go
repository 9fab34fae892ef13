package engine

import (
	"testing"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"10m": 10 << 20, "1k": 1 << 10, "2g": 2 << 30, "512": 512, "10MB": 10 << 20, "-1": 0} {
		if got, err := parseSize("max-size", text); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "m", "0", "-2", "10x", "1kk", "99999999999g"} {
		if _, err := parseSize("max-size", text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]int{"": 15, "KILL": 9, "sigterm": 15, "9": 9, "RTMIN+3": 37, "SIGRTMIN+0": 34} {
		if got, err := parseSignal(text, "SIGTERM"); err != nil || int(got) != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"NOSUCH", "0", "65", "-1", "RTMIN+31"} {
		if _, err := parseSignal(text, "SIGTERM"); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestStoredName(t *testing.T) {
	names := []string{"docker.io/library/box:1", "docker.io/library/box:latest"}
	for asked, want := range map[string]string{
		"box": names[1], "docker.io/library/box:latest": names[1], "box:1": names[0], "box:2": names[0],
		"sha256:0123": names[0], "": names[0],
	} {
		if have := storedName(names, asked); have != want {
			t.Errorf("%q: %q, want %q", asked, have, want)
		}
	}
	if have := storedName(nil, "box"); have != "box" {
		t.Errorf("of no names: %q", have)
	}
}
