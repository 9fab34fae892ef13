package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// member wraps raw deflate data of what unpacks to plain.
func member(raw, plain []byte) []byte {
	out := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, raw...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(plain))
	return binary.LittleEndian.AppendUint32(out, uint32(len(plain)))
}

// pack compresses by the standard library.
func pack(t testing.TB, level int, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// samples are plain texts of every kind: empty, runs, all distances, noise.
func samples() map[string][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300<<10)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	var words, mixed bytes.Buffer
	for words.Len() < 900<<10 {
		fmt.Fprintf(&words, "%x ", rnd.Uint32N(5000))
	}
	for mixed.Len() < 900<<10 {
		k := rnd.IntN(len(noise) - 400)
		mixed.Write(noise[k : k+rnd.IntN(300)])
		mixed.WriteString(strings.Repeat(string(noise[k:k+1+rnd.IntN(20)]), rnd.IntN(50)))
	}
	far := append(bytes.Clone(noise[:32<<10]), noise[:32<<10]...) // matches as far as may be
	return map[string][]byte{
		"empty": {}, "one": {7}, "zeros": make([]byte, 1<<20), "noise": noise, "words": words.Bytes(), "mixed": mixed.Bytes(),
		"far": far, "short": []byte("hello hello hello hello\n"),
	}
}

func TestAsStandardLibrary(t *testing.T) {
	for name, plain := range samples() {
		for _, level := range []int{gzip.HuffmanOnly, gzip.NoCompression, 1, 5, 9} {
			packed := pack(t, level, plain)
			var whole bytes.Buffer
			r, err := NewReader(bytes.NewReader(packed))
			if err == nil {
				_, err = r.WriteTo(&whole)
			}
			if err != nil || !bytes.Equal(whole.Bytes(), plain) {
				t.Errorf("%s, level %d: %d bytes, %v", name, level, whole.Len(), err)
			}
		}
	}
}

// TestPieces feeds and takes the stream in pieces of every awkward size.
func TestPieces(t *testing.T) {
	plain := samples()["mixed"]
	packed := pack(t, 6, plain)
	for name, src := range map[string]io.Reader{
		"bytes":         iotest.OneByteReader(bytes.NewReader(packed)),
		"half":          iotest.HalfReader(bytes.NewReader(packed)),
		"data with EOF": iotest.DataErrReader(bytes.NewReader(packed)),
	} {
		r, err := NewReader(src)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for n := 1; err == nil; n = n%70000*3 + 1 {
			p := make([]byte, n)
			n, err = r.Read(p)
			got = append(got, p[:n]...)
		}
		if err != io.EOF || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(plain), err)
		}
	}
}

func TestMembers(t *testing.T) {
	var packed, plain []byte
	for _, s := range samples() {
		packed = append(packed, pack(t, 6, s)...)
		plain = append(plain, s...)
	}
	got, err := all(packed)
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes of %d, %v", len(got), len(plain), err)
	}
	// A member may not reach back into the one before it.
	var b bytes.Buffer
	w, _ := flate.NewWriterDict(&b, 9, []byte("the words of the member before"))
	w.Write([]byte("the words of the member before"))
	w.Close()
	bad := append(pack(t, 6, []byte("the words of the member before")), member(b.Bytes(), nil)...)
	if _, err := all(bad); !errors.Is(err, ErrCorrupt) {
		t.Error("a reach into another member:", err)
	}
}

func TestHeaders(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name, w.Comment, w.Extra = "layer.tar", "a comment", bytes.Repeat([]byte{1}, 65535)
	w.Write([]byte("x"))
	w.Close()
	if got, err := all(b.Bytes()); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	h := []byte{0x1f, 0x8b, 8, flagCRC, 0, 0, 0, 0, 0, 255}
	sum := binary.LittleEndian.AppendUint16(bytes.Clone(h), uint16(crc32.ChecksumIEEE(h)))
	body := pack(t, 6, []byte("x"))[10:]
	if got, err := all(append(sum, body...)); err != nil || string(got) != "x" {
		t.Errorf("header checksum: %q, %v", got, err)
	}
	for name, p := range map[string][]byte{
		"wrong checksum": append(append(bytes.Clone(h), 1, 2), body...),
		"magic":          append([]byte{0x1f, 0x8c}, make([]byte, 30)...),
		"method":         append([]byte{0x1f, 0x8b, 7}, make([]byte, 30)...),
		"long name":      append([]byte{0x1f, 0x8b, 8, flagName, 0, 0, 0, 0, 0, 255}, bytes.Repeat([]byte{'n'}, 2000)...),
		"junk behind":    append(pack(t, 6, []byte("x")), "junk and more junk"...),
	} {
		if _, err := all(p); !errors.Is(err, ErrHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewReader(bytes.NewReader(nil)); err != io.EOF {
		t.Error("empty:", err)
	}
}

// TestCutShort cuts a stream at every byte.
func TestCutShort(t *testing.T) {
	for _, level := range []int{0, 1, 9} {
		packed := pack(t, level, []byte(strings.Repeat("some text that repeats, but not only ", 20)+samplesText))
		for n := 1; n < len(packed); n++ {
			if _, err := all(packed[:n]); err != io.ErrUnexpectedEOF {
				t.Fatalf("level %d, %d of %d bytes: %v", level, n, len(packed), err)
			}
		}
	}
}

const samplesText = "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ"

func TestDamaged(t *testing.T) {
	packed := pack(t, 6, []byte(samplesText))
	for _, at := range []int{len(packed) - 8, len(packed) - 4} {
		bad := bytes.Clone(packed)
		bad[at]++
		if _, err := all(bad); err != ErrChecksum {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	for name, raw := range map[string][]byte{
		"type 3":           {7},
		"stored length":    {1, 5, 0, 5, 0, 1, 2, 3, 4, 5},
		"287 lit codes":    {0b11110101, 0, 0, 0, 0, 0},
		"empty cl code":    {0b00000101, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"distance at once": {0b00000011, 0b00000010, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		if _, err := all(append(member(raw, nil), make([]byte, 40)...)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSourceError passes on what the source says.
func TestSourceError(t *testing.T) {
	packed := pack(t, 6, samples()["words"])
	want := errors.New("the line is cut")
	r, err := NewReader(io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(want)))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	if err != want || n == 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := r.Read(make([]byte, 1)); err != want {
		t.Error("the error doesn't stick:", err)
	}
	if err := r.Reset(bytes.NewReader(packed)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, samples()["words"]) {
		t.Error("after Reset:", err)
	}
}

// TestBomb unpacks a thousandfold: memory stays what it is.
func TestBomb(t *testing.T) {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, 9)
	const size = 512 << 20
	io.CopyN(w, zeros{}, size)
	w.Close()
	r, err := NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := io.Copy(io.Discard, r)
	runtime.ReadMemStats(&after)
	if err != nil || n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes were allocated", grown)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func all(p []byte) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(p))
	if err != nil {
		return nil, early(err)
	}
	return io.ReadAll(r)
}

// compare runs both decoders and wants the same verdict and the same bytes.
func compare(t *testing.T, packed []byte) {
	const limit = 64 << 20
	own, ownErr := all2(limit, func() (io.Reader, error) { return NewReader(bytes.NewReader(packed)) })
	std, stdErr := all2(limit, func() (io.Reader, error) { return gzip.NewReader(bytes.NewReader(packed)) })
	if (ownErr == nil) != (stdErr == nil) {
		t.Fatalf("%d bytes and %v, but the standard library: %d bytes and %v", len(own), ownErr, len(std), stdErr)
	}
	if ownErr == nil && !bytes.Equal(own, std) {
		t.Fatal("not the same bytes")
	}
	if n := min(len(own), len(std)); !bytes.Equal(own[:n], std[:n]) {
		t.Fatal("not the same bytes before the error")
	}
	if ownErr != nil && len(own)+2 < len(std) {
		t.Fatalf("%d bytes before %v, but the standard library has %d before %v", len(own), ownErr, len(std), stdErr)
	}
}

func all2(limit int64, open func() (io.Reader, error)) ([]byte, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, limit))
}

// FuzzGzip compares with the standard library on whole streams.
func FuzzGzip(f *testing.F) {
	for _, plain := range samples() {
		f.Add(pack(f, 6, plain[:min(len(plain), 2000)]))
	}
	f.Fuzz(compare)
}

// FuzzDeflate compares on what stands between a good header and any trailer: the
// fuzzer can't make checksums.
func FuzzDeflate(f *testing.F) {
	for _, level := range []int{0, 1, 9, flate.HuffmanOnly} {
		for _, plain := range samples() {
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, level)
			w.Write(plain[:min(len(plain), 3000)])
			w.Close()
			f.Add(b.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := bytes.NewReader(raw)
		std, err := io.ReadAll(io.LimitReader(flate.NewReader(in), 64<<20))
		if err == nil {
			// What the reader used is the stream; give it its trailer.
			raw = raw[:len(raw)-in.Len()]
		}
		compare(t, member(raw, std))
	})
}

// FuzzRoundTrip packs by the standard library what the fuzzer says.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(samplesText), 6, uint16(1))
	f.Fuzz(func(t *testing.T, plain []byte, level int, times uint16) {
		plain = bytes.Repeat(plain, 1+int(times)%64)
		packed := pack(t, (level%10+10)%10, plain)
		if got, err := all(packed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(plain), err)
		}
	})
}
