package packed_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"os/exec"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/ulikunitz/xz"

	"github.com/orlop/orlop/services/archive/packed"
)

// bzipped is "hello\n" as the bzip2 program packs it.
const bzipped = "QlpoOTFBWSZTWcHAgOIAAAFBAAAQAkSgADDNAMNGKZcXckU4UJDBwIDi"

func samples(t *testing.T) map[string][]byte {
	t.Helper()
	var z bytes.Buffer
	w, err := xz.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	bz, err := base64.StdEncoding.DecodeString(bzipped)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{"xz": z.Bytes(), "bzip2": bz}
	for _, name := range []string{"gzip", "zstd", "cat"} {
		cmd := exec.Command(name)
		cmd.Stdin = bytes.NewReader([]byte("hello\n"))
		if data, err := cmd.Output(); err == nil { // the program is there
			out[name] = data
		}
	}
	return out
}

func TestOpen(t *testing.T) {
	for name, data := range samples(t) {
		r, err := packed.Open(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		have, err := io.ReadAll(r)
		if err != nil || string(have) != "hello\n" {
			t.Errorf("%s: %q, %v", name, have, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, short := range []string{"", "B", "BZ", "\xfd7z"} {
		r, err := packed.Open(bytes.NewReader([]byte(short)))
		if err != nil {
			t.Fatalf("%q: %v", short, err)
		}
		if have, err := io.ReadAll(r); err != nil || string(have) != short {
			t.Errorf("%q: %q, %v", short, have, err)
		}
	}
}

// TestDamaged: what is damaged is the sender's mistake.
func TestDamaged(t *testing.T) {
	for name, data := range samples(t) {
		if name == "cat" {
			continue
		}
		bad := bytes.Clone(data)
		bad[len(bad)/2] ^= 0xff
		for what, data := range map[string][]byte{"half": data[:len(data)/2], "changed": bad} {
			r, err := packed.Open(bytes.NewReader(data))
			if err == nil {
				_, err = io.ReadAll(r)
			}
			if name != "zstd" && !errdefs.IsInvalidArgument(err) || err == nil {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}
