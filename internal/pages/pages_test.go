package pages

import "testing"

func TestReadOnly(t *testing.T) {
	for _, c := range []struct {
		line        string
		first, last uintptr
		ok          bool
	}{
		{"00400000-01a2b000 r-xp 00000000 fe:01 123 /usr/bin/orlopd", 0x400000, 0x1a2b000, true},
		{"01a2b000-02000000 r--p 0162b000 fe:01 123 /usr/bin/orlopd", 0x1a2b000, 0x2000000, true},
		{"02000000-02100000 rw-p 01c00000 fe:01 123 /usr/bin/orlopd", 0, 0, false},
		{"7f0000000000-7f0000001000 r--p 00000000 fe:01 9 /usr/bin/other", 0, 0, false},
		{"c000000000-c000400000 rw-p 00000000 00:00 0", 0, 0, false},
		{"odd r--p 00000000 fe:01 123 /usr/bin/orlopd", 0, 0, false},
	} {
		first, last, ok := readOnly(c.line, "/usr/bin/orlopd")
		if first != c.first || last != c.last || ok != c.ok {
			t.Errorf("%s: got %x-%x, %v", c.line, first, last, ok)
		}
	}
}

// What is forgotten can be used again.
func TestForget(t *testing.T) {
	for range 3 {
		if err := Forget(); err != nil {
			t.Fatal(err)
		}
		TestReadOnly(t)
	}
}
