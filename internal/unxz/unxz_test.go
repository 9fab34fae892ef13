package unxz_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/orlop/orlop/internal/unxz"
)

const most = 16 << 20

func pack(t testing.TB, c xz.WriterConfig, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := c.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unpack(packed []byte) ([]byte, error) {
	z, err := unxz.New(bytes.NewReader(packed), most)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// text is data that can be compressed, but not all of it.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, n)
	for i := range out {
		if out[i] = byte('a' + r.IntN(4)); i%4096 < 512 {
			out[i] = byte(r.Uint32())
		}
	}
	return out
}

func TestRead(t *testing.T) {
	data := text(300_000)
	for name, c := range map[string]xz.WriterConfig{
		"crc64": {}, "crc32": {CheckSum: xz.CRC32}, "sha256": {CheckSum: xz.SHA256}, "none": {NoCheckSum: true},
		"small dictionary": {DictCap: 4096}, "blocks": {BlockSize: 10_000},
	} {
		packed := pack(t, c, data)
		if have, err := unpack(packed); err != nil || !bytes.Equal(have, data) {
			t.Errorf("%s: %d bytes, %v", name, len(have), err)
		}
		twice := append(append(bytes.Clone(packed), 0, 0, 0, 0, 0, 0, 0, 0), packed...)
		if have, err := unpack(twice); err != nil || !bytes.Equal(have, append(bytes.Clone(data), data...)) {
			t.Errorf("%s, twice: %d bytes, %v", name, len(have), err)
		}
	}
	if have, err := unpack(pack(t, xz.WriterConfig{}, nil)); err != nil || len(have) > 0 {
		t.Errorf("nothing: %d bytes, %v", len(have), err)
	}
}

// TestProgram reads what the xz program writes.
func TestProgram(t *testing.T) {
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("needs xz")
	}
	data := text(200_000)
	for _, args := range [][]string{{"-6"}, {"-0e"}, {"-T2", "--block-size=50000"}, {"--check=sha256"}, {"--check=none"}} {
		cmd := exec.Command("xz", append(args, "-c")...)
		cmd.Stdin = bytes.NewReader(data)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if have, err := unpack(packed); err != nil || !bytes.Equal(have, data) {
			t.Errorf("%v: %d bytes, %v", args, len(have), err)
		}
	}
}

// TestDamaged: a file that ends early is never taken, and one with a byte changed gives
// no other data.
func TestDamaged(t *testing.T) {
	data := text(2000)
	packed := pack(t, xz.WriterConfig{BlockSize: 900, DictCap: 4096}, data)
	for n := range packed {
		if _, err := unpack(packed[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%d of %d bytes: %v", n, len(packed), err)
		}
		bad := bytes.Clone(packed)
		bad[n] ^= 0x10
		if have, err := unpack(bad); err == nil && !bytes.Equal(have, data) {
			t.Fatalf("byte %d changed, and nobody sees it", n)
		}
	}
	if _, err := unpack(append(bytes.Clone(packed), "more"...)); !errors.Is(err, unxz.ErrCorrupt) {
		t.Errorf("something behind it: %v", err)
	}
}

func TestLimits(t *testing.T) {
	big := pack(t, xz.WriterConfig{DictCap: 2 * most}, text(100))
	if _, err := unpack(big); !errors.Is(err, unxz.ErrLimit) {
		t.Errorf("a large dictionary: %v", err)
	}
	many := bytes.Repeat(pack(t, xz.WriterConfig{DictCap: most}, []byte("x")), 300)
	if _, err := unpack(many); !errors.Is(err, unxz.ErrLimit) {
		t.Errorf("many dictionaries: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(pack(f, xz.WriterConfig{}, text(2000)))
	f.Add(pack(f, xz.WriterConfig{BlockSize: 100, CheckSum: xz.CRC32}, text(300)))
	f.Fuzz(func(t *testing.T, b []byte) {
		z, err := unxz.New(bytes.NewReader(b), 1<<20)
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, io.LimitReader(z, 8<<20))
		if err == nil && n < 8<<20 { // then the library, which is stricter nowhere, agrees
			other, err := xz.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if m, err := io.Copy(io.Discard, other); err != nil || m != n {
				t.Fatalf("%d bytes here, %d there: %v", n, m, err)
			}
		}
	})
}
