package registry

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"a", "a/b", false},
		{"team/*", "team/app", true}, {"team/*", "team/app/sub", false}, {"team/*", "team", false},
		{"team/**", "team/app/sub", true}, {"team/**", "teams/app", false},
		{"**", "any/thing", true}, {"*", "any/thing", false},
		{"v*.0", "v1.0", true}, {"v*.0", "v1x0", false}, {"a.b", "axb", false},
		{"**/app", "x/y/app", true}, {"a\n", "a", false},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, got)
		}
	}
	for _, bad := range []string{"", strings.Repeat("a", maxPattern+1)} {
		if _, err := ParsePattern(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%.10q: %v", bad, err)
		}
	}
	if (Pattern{}).Match("") {
		t.Error("the zero pattern chooses something")
	}
}
