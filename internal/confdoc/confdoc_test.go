package confdoc

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestExtract(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/a.go": "package a\n\n// Config is a.\n//\n// More.\ntype Config struct {\n\t// Address to listen at,\n\t// or none.\n\tAddress string\n\tBare int\n}\n\n// Other is not one.\ntype Other struct {\n\t// X is not seen.\n\tX int\n}\n",
		"b.go":   "package b\n\ntype tagged struct {\n\t// Key is seen.\n\tKey int `toml:\"key\"`\n}\n",
		// None of these counts.
		"a/a_test.go":     "package a\n\n// Config is not seen.\ntype Config struct{}\n",
		"a/testdata/x.go": "package x\n\n// Config is not seen.\ntype Config struct{}\n",
		"nested/go.mod":   "module nested\n",
		"nested/n.go":     "package n\n\n// Config is not seen.\ntype Config struct{}\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Extract(dir, "m")
	if err != nil {
		t.Fatal(err)
	}
	want := Docs{"m/a.Config": "Config is a.\n\nMore.", "m/a.Config.Address": "Address to listen at,\nor none.", "m.tagged.Key": "Key is seen."}
	if !maps.Equal(got, want) {
		t.Errorf("docs %q, want %q", got, want)
	}
	if again := Parse(Format(got)); !maps.Equal(again, want) {
		t.Errorf("after Format and Parse: %q", again)
	}
	if got.Of("m/a", "Config", "Address") == "" || got.Of("m/a", "Config", "") == "" {
		t.Error("Of finds nothing")
	}
}
