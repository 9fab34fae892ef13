package command

import (
	"slices"
	"strings"
	"testing"

	"github.com/orlop/orlop/cmd/internal/session"
)

func TestTableNames(t *testing.T) {
	for _, e := range table {
		if got := e.make(&session.Session{}).Name(); got != e.name {
			t.Errorf("entry %q makes %q", e.name, got)
		}
	}
}

func TestOnlyWhatIsNamedIsMade(t *testing.T) {
	all := len(table)
	for _, c := range []struct {
		args string
		want int
	}{
		{"ps -a", 1}, {"-H unix:///x ps", 1}, {"--host=unix:///x --debug run --rm ps", 1}, {"--context ps ps", 1},
		{"", all}, {"--help", all}, {"help ps", all}, {"nothing", all}, {"__complete p", all}, {"--context ps", all}, {"-- ps", 1},
	} {
		root := Root(&session.Session{}, nil)
		got := needed(root, slices.DeleteFunc(strings.Split(c.args, " "), func(s string) bool { return s == "" }))
		if len(got) != c.want {
			t.Errorf("%q makes %d commands, want %d", c.args, len(got), c.want)
		}
	}
}
