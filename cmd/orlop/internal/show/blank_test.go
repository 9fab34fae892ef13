package show

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/docker/cli/templates"
)

func TestPrintBlanks(t *testing.T) {
	type endpoint struct {
		IP   netip.Addr
		Net  netip.Prefix
		Name string
	}
	data := map[string]any{
		"none": endpoint{Name: "none"}, "some": endpoint{netip.MustParseAddr("10.1.0.2"), netip.MustParsePrefix("10.1.0.0/16"), "some"},
		"list": []endpoint{{Name: "a"}, {IP: netip.MustParseAddr("fd00::1"), Name: "b"}}, "nil": nil, "number": 7,
	}
	for text, want := range map[string]string{
		`[{{.none.IP}}][{{.none.Net}}][{{.none.Name}}]`:        "[][][none]",
		`{{.some.IP}} {{.some.Net}}`:                           "10.1.0.2 10.1.0.0/16",
		`{{range .list}}{{.Name}}={{.IP}};{{end}}`:             "a=;b=fd00::1;",
		`{{with .none}}{{.IP}}{{else}}x{{end}}`:                "",
		`{{if .missing}}{{else}}{{.none.IP}}!{{end}}`:          "!",
		`{{$a := .none.IP}}[{{$a}}]`:                           "[]",
		`{{.missing}} {{.nil}} {{.number}}`:                    "<no value> <no value> 7",
		`{{json .some.IP}} {{json .none.IP}}`:                  `"10.1.0.2" ""`,
		`{{printf "%s" .some.IP}} {{len .list}}`:               "10.1.0.2 2",
		`{{define "x"}}<{{.IP}}>{{end}}{{template "x" .none}}`: "<>",
	} {
		tmpl, err := templates.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := printBlanks(tmpl).Execute(&b, data); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v, want %q", text, b.String(), err, want)
		}
	}
}
