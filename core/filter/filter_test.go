package filter_test

import (
	"testing"

	"github.com/orlop/orlop/core/filter"
)

func fields(path []string) (string, bool) {
	switch path[0] {
	case "name":
		return "docker.io/library/busybox:1", true
	case "empty":
		return "", true
	case "labels":
		return filter.Labels(map[string]string{"a.b": "c", "odd key": "v,w"}, path[1:])
	}
	return "", false
}

func TestMatch(t *testing.T) {
	for text, want := range map[string]bool{
		``:                                  true,
		`name`:                              true,
		`missing`:                           false,
		`empty`:                             true,
		`name==docker.io/library/busybox:1`: true,
		`name==other`:                       false,
		`name!=other`:                       true,
		`name~=busy`:                        true,
		`name~=^busy`:                       false,
		`name~=/^docker\.io\/lib/`:          true,
		`name~=|box:\d|`:                    true,
		`labels.a.b==c`:                     true,
		`labels."a.b"==c`:                   true,
		`labels."odd key"=="v,w"`:           true,
		`name~=box,labels.a.b==d`:           false,
		`name~=box,labels.a.b==c`:           true,
		"name ~= box, labels.a.b == c\t":    true,
	} {
		f, err := filter.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if f.Match(fields) != want {
			t.Errorf("%s: got %v", text, !want)
		}
	}
}

func TestAlternatives(t *testing.T) {
	f, err := filter.Parse(`name==no`, `empty`)
	if err != nil || !f.Match(fields) {
		t.Fatalf("several filters are alternatives: %v", err)
	}
	if none, _ := filter.Parse(); !none.Match(fields) {
		t.Fatal("no filter must match all")
	}
}

func TestBadFilters(t *testing.T) {
	for _, text := range []string{`name=`, `name==`, `==x`, `name==a,`, `name~=[`, `name=="a`, `a..b`, `name~=/x`, `name<3`} {
		if _, err := filter.Parse(text); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`name~=/a/,labels."x y"=="z"`)
	f.Fuzz(func(t *testing.T, text string) {
		if parsed, err := filter.Parse(text); err == nil {
			parsed.Match(fields)
		}
	})
}
