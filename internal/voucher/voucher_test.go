package voucher

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestWord(t *testing.T) {
	v, d := New(), digest.FromString("x")
	word := v.Word("h:1", "a/b", d)
	if !v.Good(word, "h:1", "a/b", d) {
		t.Error("the right word is refused")
	}
	for what, good := range map[string]bool{
		"another host": v.Good(word, "h:2", "a/b", d), "another repository": v.Good(word, "h:1", "a/c", d),
		"another blob": v.Good(word, "h:1", "a/b", digest.FromString("y")), "another process": New().Good(word, "h:1", "a/b", d),
		"no word": v.Good("", "h:1", "a/b", d), "nobody": (*Voucher)(nil).Good(word, "h:1", "a/b", d), "noise": v.Good("zz", "h:1", "a/b", d),
	} {
		if good {
			t.Errorf("%s: it is believed", what)
		}
	}
}
