package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/orlop/orlop/internal/confdoc"
)

// TestDocsAreFresh fails if a config struct's comments have changed since docs
// were generated.
func TestDocsAreFresh(t *testing.T) {
	docs, err := confdoc.Extract("../..", "github.com/orlop/orlop")
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("docs.txt")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != confdoc.Format(docs) {
		t.Error("docs.txt is older than the comments it is made of; run make gen")
	}
}

// TestDefaultsAreDocumented fails for a setting without a doc comment.
func TestDefaultsAreDocumented(t *testing.T) {
	var check func(reflect.Type)
	check = func(typ reflect.Type) {
		for _, f := range fieldsOf(typ).list {
			if f.doc() == "" {
				t.Errorf("%s.%s has no doc comment", typ, f.name)
			}
			if f.typ.Kind() == reflect.Struct {
				check(f.typ)
			}
		}
	}
	check(reflect.TypeFor[Settings]())
}

func TestWriteAndReadAgain(t *testing.T) {
	s := DefaultSettings()
	s.Root, s.Imports = `/a "quoted" \ path`, nil
	s.Timeouts = map[string]time.Duration{"io.x": time.Minute}
	s.ProxyPlugins = map[string]Proxy{"p": {Type: "snapshot", Address: "/p", Exports: map[string]string{"k": "v"}}}
	s.StreamProcessors = map[string]StreamProcessor{"a.b": {Accepts: []string{"x", "y\n"}}}
	x := sample{Address: "\u0001", Ratio: 3, Wait: time.Second, Map: map[string]string{"a b": "c"}, Many: []sub{{Name: "1"}, {Level: 2}}, Sub: sub{Name: "n"}}
	for _, comments := range []bool{true, false} {
		text := Write(s, []Section{{ID: "io.x.y", Doc: "does x", Config: &x}, {ID: "io.x.z"}}, comments)
		doc, err := Parse("w.toml", []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var r Report
		got := doc.Settings(Settings{Root: "/r", State: "/s"}, &r)
		var y sample
		Decode(doc.Root.Get("plugins", "io.x.y"), &y, "x", &r)
		if err := r.Problems.Err(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		got.Plugins, got.Imports, got.DisabledPlugins, got.OnlyPlugins, got.RequiredPlugins = nil, nil, nil, nil, nil
		p := got.ProxyPlugins["p"]
		p.Capabilities = nil
		got.ProxyPlugins["p"] = p
		sp := got.StreamProcessors["a.b"]
		sp.Args, sp.Env = nil, nil
		got.StreamProcessors["a.b"] = sp
		if !reflect.DeepEqual(got, s) {
			t.Errorf("settings\n%+v, want\n%+v\n%s", got, s, text)
		}
		y.List, y.Ptr = nil, nil
		if !reflect.DeepEqual(x, y) {
			t.Errorf("read %+v, want %+v\n%s", y, x, text)
		}
		if strings.Contains(text, "#") != comments {
			t.Errorf("comments:\n%s", text)
		}
	}
}

func TestSnake(t *testing.T) {
	for name, want := range map[string]string{"MaxLayerBytes": "max_layer_bytes", "PlainHTTP": "plain_http", "HTTPDebug": "http_debug", "UID": "uid", "A": "a", "UserID2": "user_id2"} {
		if got := snake(name); got != want {
			t.Errorf("snake(%s) = %s, want %s", name, got, want)
		}
	}
}

func TestSet(t *testing.T) {
	doc, err := Parse("f.toml", []byte("root = '/file'"))
	if err != nil {
		t.Fatal(err)
	}
	doc.Set("/flag", "root")
	doc.Set("debug", "debug", "level")
	var r Report
	if s := doc.Settings(DefaultSettings(), &r); s.Root != "/flag" || s.Debug.Level != "debug" {
		t.Errorf("settings %+v", s)
	}
	doc.Set("relative", "state")
	doc.Settings(DefaultSettings(), &r)
	if got := r.Problems.Error(); got != `state: "relative" is no absolute path` {
		t.Error(got)
	}
}
