// Package logsink takes the lines that containers print to where logs are collected:
// journald, syslog, fluentd and gelf, each by its own protocol.
//
// A [Sink] has a queue that is bounded in bytes and one goroutine that connects,
// sends, and connects again. Who prints is held up only if the sink is blocking, it is
// there, and it is slower than the container for longer than its queue lasts. One that
// is absent holds nobody up: once its queue is full, lines are dropped and counted.
//
// Close gives the queue some time to empty. What is in it is lost in a crash; the
// caller's own log file is not this package's matter.
package logsink

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/internal/logfile"
)

// Config says where lines go and what goes with them.
type Config struct {
	// Driver is a name of [Drivers], Options are what the user gave it.
	Driver  string
	Options map[string]string
	// About is the container.
	About About
	// Attrs are sent with each line.
	Attrs map[string]string
}

// About is what a sink may tell of a container.
type About struct {
	ID, Name       string // in full; the name without a slash
	Image, ImageID string
	Command, Tag   string
	Host           string
	Created        time.Time
}

// fields are what about a container is called where it is passed on, but for the time.
func (a *About) fields() map[string]*string {
	return map[string]*string{"id": &a.ID, "name": &a.Name, "image": &a.Image, "image-id": &a.ImageID, "command": &a.Command, "tag": &a.Tag, "host": &a.Host}
}

// Set sets a field by its name.
func (a *About) Set(name, value string) (err error) {
	if name == "created" {
		a.Created, err = time.Parse(time.RFC3339Nano, value)
		return err
	}
	p := a.fields()[name]
	if p == nil {
		return fmt.Errorf("nothing about a container is called %q", name)
	}
	*p = value
	return nil
}

// All are the fields by their names, as [About.Set] takes them.
func (a *About) All() map[string]string {
	out := map[string]string{"created": a.Created.UTC().Format(time.RFC3339Nano)}
	for name, p := range a.fields() {
		out[name] = *p
	}
	return out
}

// short is the container's ID as people know it.
func (a About) short() string { return a.ID[:min(12, len(a.ID))] }

// driver speaks one protocol. Its methods are called by one goroutine.
type driver interface {
	// connect makes a connection; what there was before is closed.
	connect() error
	// send sends one line. An error means that the connection is of no use.
	send(e logfile.Entry) error
	close() error
}

// kind is a driver before it has a container.
type kind struct {
	options []string
	open    func(c *Config) (driver, error)
	// datagrams tells that a line that can't be sent is not worth keeping.
	datagrams bool
}

// general are options of all drivers.
var general = []string{"mode", "max-buffer-size", "labels", "labels-regex", "env", "env-regex", "tag",
	"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}

var kinds = map[string]kind{
	"journald": {[]string{"journald-address"}, newJournald, true},
	"syslog": {[]string{"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key",
		"syslog-tls-skip-verify"}, newSyslog, false},
	"gelf": {[]string{"gelf-address", "gelf-compression-type", "gelf-compression-level", "gelf-tcp-max-reconnect",
		"gelf-tcp-reconnect-delay"}, newGELF, false},
	"fluentd": {[]string{"fluentd-address", "fluentd-async", "fluentd-async-connect", "fluentd-async-reconnect-interval", "fluentd-buffer-limit",
		"fluentd-max-retries", "fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout",
		"fluentd-read-timeout"}, newFluentd, false},
}

// Drivers are the names of all drivers.
func Drivers() []string { return slices.Sorted(maps.Keys(kinds)) }

// Known tells whether there is a driver of that name.
func Known(name string) bool { return kinds[name].open != nil }

// Check refuses what can't be understood, before there is anything to log.
func Check(c *Config) error {
	k, ok := kinds[c.Driver]
	if !ok {
		return bad("no log driver named '%s'", c.Driver)
	}
	for key := range c.Options {
		if !slices.Contains(k.options, key) && !slices.Contains(general, key) {
			return bad("unknown log opt '%s' for %s log driver", key, c.Driver)
		}
	}
	if _, err := queueOf(c); err != nil {
		return err
	}
	_, err := k.open(c)
	return err
}

func bad(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...)}
}

// Error is a mistake in a driver's options.
type Error struct{ text string }

// Error is for the user as it is.
func (e *Error) Error() string { return e.text }

// Unwrap gives its class.
func (e *Error) Unwrap() error { return errdefs.ErrInvalidArgument }

// defaultQueue bounds lines that wait, in bytes.
const defaultQueue = 1 << 20

// queueOf makes a driver's queue as the options say.
func queueOf(c *Config) (*Queue, error) {
	size := int64(defaultQueue)
	var err error
	for _, key := range []string{"fluentd-buffer-limit", "max-buffer-size"} {
		if text := c.Options[key]; text != "" {
			if size, err = ParseSize(text); err != nil {
				return nil, bad("log opt %s: %v", key, err)
			}
		}
	}
	block := true
	switch mode := c.Options["mode"]; mode {
	case "", "blocking":
		async, err := flag(c, "fluentd-async", "fluentd-async-connect")
		if err != nil {
			return nil, err
		}
		block = !async
	case "non-blocking":
		block = false
	default:
		return nil, bad("invalid logging mode: %s", mode)
	}
	return NewQueue(size, block), nil
}

// flag reads options that are true or false; one that is true is enough.
func flag(c *Config, keys ...string) (on bool, err error) {
	for _, key := range keys {
		text, given := c.Options[key]
		if !given {
			continue
		}
		v, err := strconv.ParseBool(text)
		if err != nil {
			return false, bad("log opt %s: %q is neither true nor false", key, text)
		}
		on = on || v
	}
	return on, nil
}

// ParseSize reads a number of bytes such as 10m.
func ParseSize(text string) (int64, error) {
	number := strings.TrimSuffix(strings.ToLower(text), "b")
	shift := 0
	if i := strings.IndexAny(number, "kmg"); i >= 0 && i == len(number)-1 {
		shift = 10 * (1 + strings.IndexByte("kmg", number[i]))
		number = number[:i]
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > 1<<(62-shift) {
		return 0, fmt.Errorf("%q is no size such as 10m", text)
	}
	return n << shift, nil
}

// errTooLarge says of a line that no connection would take it.
var errTooLarge = errors.New("the line is too long for the log's protocol")

// plain is a line without its end, and whether it has none: it goes on in the next.
func plain(e logfile.Entry) (text []byte, partial bool) {
	n := len(e.Line)
	if n > 0 && e.Line[n-1] == '\n' {
		return e.Line[:n-1], false
	}
	return e.Line, true
}
