package logsink

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orlop/orlop/internal/logfile"
)

// Forms of times.
const (
	stampMicro = "2006-01-02T15:04:05.000000Z07:00"
	stampOld   = "Jan _2 15:04:05" // RFC 3164
)

// facilities are syslog's, by number (RFC 5424, 6.2.1).
var facilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}

// localSockets are where syslog may listen on this host.
var localSockets = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

type syslog struct {
	link
	at       address // its network is "" for the host's own
	facility int
	format   string
	tag      string
	host     string
	secure   *secure
	buf      []byte
}

func newSyslog(c *Config) (driver, error) {
	s := &syslog{tag: clean(c.About.Tag), host: clean(c.About.Host), format: c.Options["syslog-format"], facility: slices.Index(facilities, "daemon")}
	if s.host == "" {
		s.host = "-"
	}
	switch s.format {
	case "", "rfc3164", "rfc5424", "rfc5424micro":
	default:
		return nil, bad("log opt syslog-format: invalid syslog format %q", s.format)
	}
	if text := c.Options["syslog-facility"]; text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			n = slices.Index(facilities, text)
		}
		if n < 0 || n >= len(facilities) {
			return nil, bad("log opt syslog-facility: invalid syslog facility %q", text)
		}
		s.facility = n
	}
	if text := c.Options["syslog-address"]; text != "" {
		port := "514"
		if strings.HasPrefix(text, "tcp+tls") {
			port = "6514"
		}
		var err error
		if s.at, err = parseAddress("syslog-address", text, port, "udp", "tcp", "tcp+tls", "unix", "unixgram"); err != nil {
			return nil, err
		}
	}
	var err error
	if s.at.network == "tcp+tls" {
		s.secure, err = newSecure(c, "syslog-tls-")
	}
	return s, err
}

// clean leaves out what would end a word of the protocol.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, text)
}

func (s *syslog) isDatagram() bool {
	return s.at.network == "udp" || s.at.network == "unixgram"
}

func (s *syslog) connect() error {
	switch s.at.network {
	case "":
		return s.connectLocal()
	case "tcp+tls":
		return s.openSecure(s.secure, s.at.host)
	}
	return s.open(s.at.network, s.at.host)
}

func (s *syslog) connectLocal() error {
	var errs []error
	for _, path := range localSockets {
		for _, network := range []string{"unixgram", "unix"} {
			err := s.open(network, path)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *syslog) send(e logfile.Entry) error {
	text, _ := plain(e)
	b := s.header(s.buf[:0], e)
	b = append(b, text...)
	if s.at.network == "tcp+tls" && strings.HasPrefix(s.format, "rfc5424") { // RFC 5425: counted
		b = append(strconv.AppendInt(nil, int64(len(b)), 10), append([]byte{' '}, b...)...)
	} else {
		b = append(b, '\n')
	}
	s.buf = b
	return s.write(b)
}

// header is what stands before the text: of RFC 5424, of RFC 3164, or that with a time
// people and programs can read, or for the host's own without a host.
func (s *syslog) header(b []byte, e logfile.Entry) []byte {
	priority := s.facility*8 + severity(e)
	pid := os.Getpid()
	switch s.format {
	case "rfc5424":
		return fmt.Appendf(b, "<%d>1 %s %s %s %d %s - ", priority, e.Time.Format(time.RFC3339), s.host, s.tag, pid, s.tag)
	case "rfc5424micro":
		return fmt.Appendf(b, "<%d>1 %s %s %s %d %s - ", priority, e.Time.Format(stampMicro), s.host, s.tag, pid, s.tag)
	case "rfc3164":
		return fmt.Appendf(b, "<%d>%s %s %s[%d]: ", priority, e.Time.Format(stampOld), s.host, s.tag, pid)
	}
	if s.at.network == "" || strings.HasPrefix(s.at.network, "unix") {
		return fmt.Appendf(b, "<%d>%s %s[%d]: ", priority, e.Time.Format(stampOld), s.tag, pid)
	}
	return fmt.Appendf(b, "<%d>%s %s %s[%d]: ", priority, e.Time.Format(time.RFC3339), s.host, s.tag, pid)
}
