package remote

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	type want struct {
		scheme string
		params map[string]string
	}
	for header, wants := range map[string][]want{
		``:      nil,
		`Basic`: {{"basic", map[string]string{}}},
		`Bearer realm="https://a/token",service="s",scope="repository:x:pull,push"`: {
			{"bearer", map[string]string{"realm": "https://a/token", "service": "s", "scope": "repository:x:pull,push"}}},
		`Basic realm="x", Bearer realm=https://b/t , service=s`: {
			{"basic", map[string]string{"realm": "x"}}, {"bearer", map[string]string{"realm": "https://b/t", "service": "s"}}},
		`Basic realm="say \"hi\", all"`:  {{"basic", map[string]string{"realm": `say "hi", all`}}},
		`Basic realm="no end`:            {{"basic", map[string]string{"realm": "no end"}}},
		`Negotiate, Basic realm="x"`:     {{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": "x"}}},
		"BEARER REALM = \"https://c/t\"": {{"bearer", map[string]string{"realm": "https://c/t"}}},
		`=,=,"`:                          nil,
	} {
		var got []want
		for _, c := range parseChallenges([]string{header}) {
			got = append(got, want(c))
		}
		if !reflect.DeepEqual(got, wants) {
			t.Errorf("%q is read as %v, want %v", header, got, wants)
		}
	}
	if n := len(parseChallenges([]string{strings.Repeat("a, ", 1000)})); n > maxChallenges {
		t.Errorf("%d challenges are read of one header", n)
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/token",service="s"`)
	f.Add(`Basic realm="x", Bearer realm=y`)
	f.Fuzz(func(t *testing.T, header string) {
		all := parseChallenges([]string{header})
		if len(all) > maxChallenges {
			t.Fatalf("%d challenges", len(all))
		}
		for _, c := range all {
			if c.scheme == "" || strings.ContainsAny(c.scheme, " ,=\"") {
				t.Fatalf("scheme %q of %q", c.scheme, header)
			}
		}
	})
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{"busybox", "a.example:5000/b/c:d", "x@sha256:" + strings.Repeat("a", 64), "[::1]:5000/x", "a/../b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ref, err := ParseReference(name)
		if err != nil {
			return
		}
		if ref.Host == "" || ref.Repository == "" || ref.Tag == "" && ref.Digest == "" {
			t.Fatalf("%q is read as %+v", name, ref)
		}
		if strings.Contains(ref.Repository, "..") || strings.ContainsAny(ref.Repository+ref.Tag, "?#%\\ ") {
			t.Fatalf("%q has the repository %q and the tag %q, which change the address", name, ref.Repository, ref.Tag)
		}
		again, err := ParseReference(ref.Name)
		if err != nil || again != ref {
			t.Fatalf("%q is %+v, and read again %+v, %v", name, ref, again, err)
		}
	})
}

func FuzzHosts(f *testing.F) {
	f.Add([]byte("server = \"https://a\"\n[host.\"https://m\"]\n  capabilities = [\"pull\"]\n  ca = \"x.crt\"\n  client = [[\"a\", \"b\"]]\n"))
	f.Add([]byte("[host]\n[host.'x'.header]\n  a = [\"b\"]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseHosts(data)
		if err != nil {
			return
		}
		if len(file.order) != len(file.Host) {
			t.Fatalf("%d hosts in order, %d in the file", len(file.order), len(file.Host))
		}
		c := New(Config{})
		for _, key := range file.order {
			e, err := c.endpoint(key, hostEntry{Header: file.Host[key].Header}, "/nonexistent")
			if err == nil && e.base.Scheme != "http" && e.base.Scheme != "https" {
				t.Fatalf("host %q becomes %v", key, e.base)
			}
		}
	})
}
