package logsink

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// What the forward protocol needs of MessagePack
// (https://github.com/msgpack/msgpack/blob/master/spec.md).

func packArray(b []byte, n int) []byte { return append(b, 0x90|byte(n)) } // below 16

func packMap(b []byte, n int) []byte {
	if n < 16 {
		return append(b, 0x80|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, 0xde), uint16(n))
}

func packString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func packUint(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(append(b, 0xcf), v) }

// packTime is the protocol's EventTime: seconds and nanoseconds as the extension type 0.
func packTime(b []byte, t time.Time) []byte {
	b = binary.BigEndian.AppendUint32(append(b, 0xd7, 0), uint32(t.Unix()))
	return binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
}

// maxAnswer bounds a string of a collector, in bytes.
const maxAnswer = 1 << 10

func readMap(r *bufio.Reader) (n int, err error) {
	c, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	if c&0xf0 != 0x80 {
		return 0, fmt.Errorf("0x%02x begins no small map", c)
	}
	return int(c & 0xf), nil
}

func readString(r *bufio.Reader) (string, error) {
	c, err := r.ReadByte()
	if err != nil {
		return "", err
	}
	n := int(c & 0x1f)
	switch {
	case c&0xe0 == 0xa0:
	case c == 0xd9:
		short, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		n = int(short)
	default:
		return "", fmt.Errorf("0x%02x begins no short string", c)
	}
	if n > maxAnswer {
		return "", fmt.Errorf("a string has %d bytes", n)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return string(b), err
}
