package logsink

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/orlop/orlop/internal/logfile"
)

// journalSocket is where journald listens (systemd's native protocol).
const journalSocket = "/run/systemd/journal/socket"

// Priorities of lines, syslog's numbers.
const (
	severityErr  = 3
	severityInfo = 6
)

func severity(e logfile.Entry) int {
	if e.Stream == logfile.Stderr {
		return severityErr
	}
	return severityInfo
}

type journald struct {
	link
	path  string
	about []byte // fields that are the same for all lines
	buf   []byte
}

func newJournald(c *Config) (driver, error) {
	j := &journald{path: journalSocket}
	if text := c.Options["journald-address"]; text != "" {
		a, err := parseAddress("journald-address", text, "", "unixgram")
		if err != nil {
			return nil, err
		}
		j.path = a.host
	}
	a := c.About
	for _, f := range [][2]string{{"CONTAINER_ID", a.short()}, {"CONTAINER_ID_FULL", a.ID}, {"CONTAINER_NAME", a.Name}, {"CONTAINER_TAG", a.Tag},
		{"IMAGE_NAME", a.Image}, {"SYSLOG_IDENTIFIER", a.Tag}} {
		j.about = appendField(j.about, f[0], []byte(f[1]))
	}
	for _, key := range slices.Sorted(maps.Keys(c.Attrs)) {
		if name := fieldName(key); name != "" {
			j.about = appendField(j.about, name, []byte(c.Attrs[key]))
		}
	}
	return j, nil
}

// fieldName is a label's name as a field: capitals, digits and underscores, the first
// a letter, as journald drops others.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	name = strings.TrimLeft(name, "_0123456789")
	return name[:min(64, len(name))]
}

// appendField adds a field; one with a line's end in it has its length before it.
func appendField(b []byte, name string, value []byte) []byte {
	b = append(b, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		b = append(b, '=')
	} else {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	}
	return append(append(b, value...), '\n')
}

func (j *journald) connect() error { return j.open("unixgram", j.path) }

func (j *journald) send(e logfile.Entry) error {
	text, partial := plain(e)
	b := appendField(j.buf[:0], "MESSAGE", text)
	b = appendField(b, "PRIORITY", strconv.AppendInt(nil, int64(severity(e)), 10))
	b = appendField(b, "SYSLOG_TIMESTAMP", e.Time.UTC().AppendFormat(nil, stampMicro))
	if partial {
		b = appendField(b, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
	}
	j.buf = append(b, j.about...)
	return j.write(j.buf)
}
