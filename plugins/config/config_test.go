package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sample has a key of every type a config may use.
type sample struct {
	Address string            `toml:"address"`
	Max     int               `toml:"max"`
	Small   uint8             `toml:"small"`
	Ratio   float64           `toml:"ratio"`
	On      bool              `toml:"on"`
	Wait    time.Duration     `toml:"wait"`
	List    []string          `toml:"list"`
	Map     map[string]string `toml:"map"`
	Sub     sub               `toml:"sub"`
	Many    []sub             `toml:"many"`
	Ptr     *bool             `toml:"ptr"`
	Hidden  string            `toml:"-"`
}

type sub struct {
	Name  string `toml:"name"`
	Level int    `toml:"level"`
}

func (s *sample) Validate() error {
	var errs []error
	if s.Address == "bad" {
		errs = append(errs, errors.New("address: must not be bad"))
	}
	if s.Max > 10 {
		errs = append(errs, fmt.Errorf("max %d is above 10", s.Max))
	}
	return errors.Join(errs...)
}

func decode(t *testing.T, text string) (sample, Report) {
	t.Helper()
	doc, err := Parse("f.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var s sample
	var r Report
	Decode(doc.Root, &s, "x", &r)
	return s, r
}

func TestDecodeEveryType(t *testing.T) {
	s, r := decode(t, `
address = "a"
max = 3
small = 255
ratio = 2
on = true
wait = "1m30s"
list = ["a", "b"]
map = {k = "v"}
ptr = false
sub.name = "n"
[[many]]
name = "one"
[[many]]
level = 7
`)
	if err := r.Problems.Err(); err != nil {
		t.Fatal(err)
	}
	if s.Wait != 90*time.Second || s.Ratio != 2 || s.Small != 255 || s.Ptr == nil || *s.Ptr {
		t.Errorf("decoded %+v", s)
	}
	if len(s.Many) != 2 || s.Many[1].Level != 7 || s.Sub.Name != "n" || s.Map["k"] != "v" || s.List[1] != "b" {
		t.Errorf("decoded %+v", s)
	}
}

func TestMistakesHavePositions(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "\nadress = 'x'", `f.toml:2:1: unknown key adress in x (did you mean "address"?)`},
		{"unknown key in a list", "[[many]]\n[[many]]\n nme='x'", `f.toml:3:2: unknown key nme in x.many[1] (did you mean "name"?)`},
		{"in an inline table", "sub = {name='x', levle=1}", `f.toml:1:18: unknown key levle in x.sub (did you mean "level"?)`},
		{"wrong type", "max = 'ten'", `f.toml:1:1: x.max: want an integer, have a string`},
		{"wrong element", "list = ['a', 2]", `f.toml:1:14: x.list[1]: want a string, have an integer`},
		{"overflow", "small = 256", `f.toml:1:1: x.small: 256 is out of range`},
		{"negative", "small = -1", `f.toml:1:1: x.small: -1 is out of range`},
		{"duration", "wait = 'soon'", `f.toml:1:1: x.wait: "soon" is no duration, such as "10s" or "1h30m"`},
		{"duration type", "wait = 5", `f.toml:1:1: x.wait: want a duration such as "10s", have an integer`},
		{"table", "sub = 1", `f.toml:1:1: x.sub: want a table, have an integer`},
		{"scalar for a list", "list = 'a'", `f.toml:1:1: x.list: want a list, have a string`},
		{"validation", "on=true\naddress = 'bad'\nmax = 11",
			"f.toml:2:1: x: address: must not be bad\nf.toml:3:1: x: max 11 is above 10"},
		{"many at once", "adress = 1\nmax = ''\n[sub]\nnam = 1",
			"f.toml:1:1: unknown key adress in x (did you mean \"address\"?)\nf.toml:2:1: x.max: want an integer, have a string\nf.toml:4:1: unknown key nam in x.sub (did you mean \"name\"?)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, r := decode(t, c.text)
			if got := r.Problems.Error(); got != c.want {
				t.Errorf("problems:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestSyntaxErrorHasPosition(t *testing.T) {
	for text, want := range map[string]string{
		"a = 1\nb = ":       "f.toml:2:",
		"a = 1\na = 2":      "f.toml:2:",
		"[t]\n[t]":          "f.toml:",
		"version = 1":       "f.toml:1:1: version 1 is too old",
		"\nversion = 5":     "f.toml:2:1: version 5 is newer",
		"version = 'three'": "f.toml:1:1: version: want an integer, have a string",
	} {
		_, err := Parse("f.toml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want prefix %q", text, err, want)
		}
	}
}

func write(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImports(t *testing.T) {
	dir := t.TempDir()
	main := write(t, dir, "main.toml", `
version = 4
root = "/main"
imports = ["d/*.toml", "main.toml"]
disabled_plugins = ["a"]
[proxy_plugins.p]
type = "snapshot"
address = "/main.sock"
[plugins."x"]
one = 1
two = 2
`, 0o600)
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "d/1.toml", "root = '/one'\nimports = ['../main.toml', '../late.toml']\ndisabled_plugins = ['b', 'a']\n[proxy_plugins.p]\naddress='/one.sock'", 0o644)
	write(t, dir, "d/2.toml", "root = '/two'\n[plugins.'x']\ntwo = 22", 0o644)
	write(t, dir, "late.toml", "state = '/late'\nroot='/late'", 0o644)
	doc, err := Load(main)
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	s := doc.Settings(DefaultSettings(), &r)
	if s.Root != "/late" || s.State != "/late" {
		t.Errorf("root %q, state %q: breadth first, the file imported by an import comes last", s.Root, s.State)
	}
	if got := strings.Join(s.DisabledPlugins, ","); got != "a,b" {
		t.Errorf("disabled_plugins = %s, want a,b", got)
	}
	if p := s.ProxyPlugins["p"]; p.Type != "" || p.Address != "/one.sock" {
		t.Errorf("proxy plugin %+v: an import replaces the entry whole", p)
	}
	x := doc.Root.Get("plugins", "x")
	if x.Get("one") == nil || x.Get("two").Value != int64(22) || filepath.Base(x.Get("two").Pos.File) != "2.toml" {
		t.Errorf("plugins.x = %v", x.plain())
	}
	if len(doc.Files) != 4 {
		t.Errorf("files read: %v", doc.Files)
	}
}

func TestRefusesFilesOthersCanWrite(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "open.toml", "root = '/x'", 0o666)
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "every user can write this file") {
		t.Errorf("Load of a world-writable file: %v", err)
	}
	main := write(t, dir, "main.toml", "imports = ['open.toml']", 0o644)
	if _, err := Load(main); err == nil || !strings.Contains(err.Error(), "every user can write this file") {
		t.Errorf("Load of a world-writable import: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none.toml")); err == nil || !strings.Contains(err.Error(), "none.toml: no such file") {
		t.Errorf("Load of nothing: %v", err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Load of a folder: %v", err)
	}
}
