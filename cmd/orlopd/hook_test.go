package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHookFillsArguments(t *testing.T) {
	bundle := t.TempDir()
	spec := `{"root":{"path":"rootfs"},"annotations":{"a.b":"note"},"process":{"cwd":"/","env":["HOME=/root","X=a=b"]}}`
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := readHook(strings.NewReader(`{"ociVersion":"1.2.0","id":"box","pid":42,"bundle":"` + bundle + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]string{
		"plain": "plain", "{{id}}-{{ pid }}": "box-42", "{{rootfs}}/etc": bundle + "/rootfs/etc", "{{bundle}}": bundle,
		`{{annotation "a.b"}}`: "note", `{{env "X"}}`: "a=b", `{{env "NONE"}}`: "", "{{ID}}": "{{ID}}",
	} {
		if got, err := h.fill(arg); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", arg, got, err, want)
		}
	}
	if _, err := h.fill("{{idd}}"); err == nil {
		t.Error("an unknown word is no mistake")
	}
}

func TestHookMistakes(t *testing.T) {
	for stdin, want := range map[string]string{
		"":                            "no state of an OCI runtime",
		"{}":                          "names no bundle",
		`{"bundle":"/nonexistent/x"}`: "no such file",
	} {
		if _, _, err := call(t, "orlopd", stdin, "oci-hook", "true"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("state %q: %v, want %s", stdin, err, want)
		}
	}
	if _, _, err := call(t, "orlopd", "", "oci-hook"); err == nil {
		t.Error("no program is no mistake")
	}
}
