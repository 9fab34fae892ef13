package label_test

import (
	"strings"
	"testing"

	"github.com/orlop/orlop/core/label"
)

func TestAddSource(t *testing.T) {
	for _, c := range [][3]string{
		{"", "a/b", "a/b"},
		{"a/b", "a/b", "a/b"},
		{"a/b,c", "c", "a/b,c"},
		{"a/b", "d", "d,a/b"},
		{",a", "d", "d,a"},
	} {
		if got := label.AddSource(c[0], c[1]); got != c[2] {
			t.Errorf("%q and %q make %q, want %q", c[0], c[1], got, c[2])
		}
	}
	list := ""
	for i := range 1000 {
		list = label.AddSource(list, strings.Repeat("x", 50)+string(rune('a'+i%26))+strings.Repeat("y", i%40))
	}
	if err := label.Validate(map[string]string{label.DistributionFrom + "reg.example": list}); err != nil {
		t.Error(err)
	}
}
