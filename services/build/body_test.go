package build

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

// What the solver looks at must have a whole header, whatever the archive begins with.
func TestTold(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"plain":     {Name: "Dockerfile"},
		"PAX":       {Name: "Dockerfile", ModTime: time.Unix(1, 5), Format: tar.FormatPAX},
		"GNU":       {Name: strings.Repeat("a/", 200) + "Dockerfile", Format: tar.FormatGNU},
		"PAX, long": {Name: strings.Repeat("ä/", 900) + "Dockerfile", Format: tar.FormatPAX},
	} {
		t.Run(name, func(t *testing.T) {
			var in bytes.Buffer
			w := tar.NewWriter(&in)
			h.Size, h.Mode, h.Typeflag = 4, 0o600, tar.TypeReg
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, "FROM"); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			out, err := io.ReadAll(told(&in))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tar.NewReader(bytes.NewReader(out[:1024])).Next(); err != nil {
				t.Error("the solver would take it for a Dockerfile:", err)
			}
			all := tar.NewReader(bytes.NewReader(out))
			for {
				got, err := all.Next()
				if err != nil {
					t.Fatal(err)
				}
				if got.Name == h.Name {
					break
				}
			}
			if text, _ := io.ReadAll(all); string(text) != "FROM" {
				t.Errorf("%q", text)
			}
		})
	}
	for _, text := range []string{"", "FROM x", strings.Repeat("FROM x\n", 200)} {
		if out, err := io.ReadAll(told(strings.NewReader(text))); string(out) != text || err != nil {
			t.Errorf("%q, %v", out, err)
		}
	}
}
