package userns

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseSubIDs(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []specs.LinuxIDMapping
		err  string
	}{
		{"# me:1:2\nother:1:2\n\nme:100000:65536\n", []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}, ""},
		{"me:300000:10\n1000:200000:5\n", []specs.LinuxIDMapping{{HostID: 200000, Size: 5}, {ContainerID: 5, HostID: 300000, Size: 10}}, ""},
		{"other:1:2\nme:1\n", nil, ""},
		{"me:0:65536\n", nil, "without the host's root"},
		{"me:5:0\n", nil, "is no range"},
		{"me:4294967290:65536\n", nil, "is no range"},
		{"me:a:1\n", nil, "invalid syntax"},
		{"me:-5:10\n", nil, "invalid syntax"},
		{"me:100:50\nme:120:50\n", nil, "overlap at 120"},
	} {
		got, err := parseSubIDs([]byte(tt.text), []string{"1000", "me"})
		if tt.err == "" && (err != nil || !slices.Equal(got, tt.want)) {
			t.Errorf("%q: %v, %v", tt.text, got, err)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%q: error %v, want %s", tt.text, err, tt.err)
		}
	}
}

func TestOtherNames(t *testing.T) {
	passwd := []byte("root:x:0:0::/:/bin/sh\nme:x:1000:1000::/:/bin/sh\nbroken\n")
	for name, want := range map[string]string{"me": "1000", "1000": "me", "you": ""} {
		if got := strings.Join(otherNames(passwd, name), ","); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
