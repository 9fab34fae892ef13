package logsink

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orlop/orlop/internal/logfile"
)

// ackWait is how long a collector that was asked to may take to confirm a line.
const ackWait = 30 * time.Second

// fluentd speaks the forward protocol, version 1, a message for each line:
// [tag, time, record, option].
type fluentd struct {
	link
	at      address
	secure  *secure
	tag     string
	fixed   []string // keys and values of each record
	ack     bool
	nanos   bool
	wait    time.Duration
	answers *bufio.Reader
	buf     []byte
}

func newFluentd(c *Config) (driver, error) {
	f := &fluentd{at: address{"tcp", "127.0.0.1:24224"}, tag: c.About.Tag, wait: ackWait}
	if text := c.Options["fluentd-address"]; text != "" {
		if !strings.Contains(text, "://") {
			text = "tcp://" + text
		}
		var err error
		if f.at, err = parseAddress("fluentd-address", text, "24224", "tcp", "unix", "tls"); err != nil {
			return nil, err
		}
	}
	var err error
	if f.ack, err = flag(c, "fluentd-request-ack"); err == nil {
		f.nanos, err = flag(c, "fluentd-sub-second-precision")
	}
	if err == nil && f.at.network == "tls" {
		f.secure, err = newSecure(c, "fluentd-tls-")
	}
	if err == nil {
		err = f.times(c)
	}
	f.fixed = []string{"container_id", c.About.ID, "container_name", "/" + c.About.Name}
	for _, key := range slices.Sorted(maps.Keys(c.Attrs)) {
		f.fixed = append(f.fixed, key, c.Attrs[key])
	}
	return f, err
}

// times reads the options that are times and counts. How often and how fast is tried
// again is the sink's own matter.
func (f *fluentd) times(c *Config) error {
	for _, key := range []string{"fluentd-retry-wait", "fluentd-async-reconnect-interval", "fluentd-write-timeout", "fluentd-read-timeout"} {
		text, given := c.Options[key]
		if !given {
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return bad("log opt %s: %q is no duration", key, text)
		}
		if key == "fluentd-read-timeout" && d > 0 {
			f.wait = d
		}
	}
	if text, given := c.Options["fluentd-max-retries"]; given {
		if n, err := strconv.Atoi(text); err != nil || n < 0 {
			return bad("log opt fluentd-max-retries: %q is no number", text)
		}
	}
	return nil
}

func (f *fluentd) connect() error {
	var err error
	if f.secure != nil {
		err = f.openSecure(f.secure, f.at.host)
	} else {
		err = f.open(f.at.network, f.at.host)
	}
	if err != nil {
		return err
	}
	f.answers = bufio.NewReader(f.conn)
	return nil
}

func (f *fluentd) send(e logfile.Entry) error {
	text, partial := plain(e)
	n := len(f.fixed)/2 + 2
	if partial {
		n++
	}
	elements := 3
	if f.ack {
		elements = 4
	}
	b := packArray(f.buf[:0], elements)
	b = packString(b, f.tag)
	if f.nanos {
		b = packTime(b, e.Time)
	} else {
		b = packUint(b, uint64(e.Time.Unix()))
	}
	b = packMap(b, n)
	for _, s := range f.fixed {
		b = packString(b, s)
	}
	b = packString(packString(b, "source"), string(e.Stream))
	b = packString(packString(b, "log"), string(text))
	if partial {
		b = packString(packString(b, "partial_message"), "true")
	}
	chunk := ""
	if f.ack {
		id := make([]byte, 16)
		rand.Read(id)
		chunk = base64.StdEncoding.EncodeToString(id)
		b = packString(packString(packMap(b, 1), "chunk"), chunk)
	}
	f.buf = b
	if err := f.write(b); err != nil || !f.ack {
		return err
	}
	return f.confirmed(chunk)
}

// confirmed waits until the collector has said that it has the line: {"ack": chunk}.
func (f *fluentd) confirmed(chunk string) error {
	f.conn.SetReadDeadline(time.Now().Add(f.wait))
	n, err := readMap(f.answers)
	if err != nil || n != 1 {
		return fmt.Errorf("the collector's answer is no map of one: %w", err)
	}
	key, err := readString(f.answers)
	if err != nil {
		return err
	}
	value, err := readString(f.answers)
	if err != nil {
		return err
	}
	if key != "ack" || value != chunk {
		return fmt.Errorf("the collector confirms %q %q, not the line %q", key, value, chunk)
	}
	return nil
}
