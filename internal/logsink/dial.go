package logsink

import (
	"net"
	"net/url"
	"strings"
	"time"
)

// Bounds of connections.
const (
	dialWait = 5 * time.Second
	// sendWait is how long a sink may take no byte before it counts as gone.
	sendWait = 30 * time.Second
)

// address is where a sink is.
type address struct{ network, host string }

// parseAddress reads scheme://host:port or scheme://path. Schemes are those that the driver
// knows; port is the default.
func parseAddress(option, text, port string, schemes ...string) (address, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return address{}, bad("log opt %s: %q is no address such as %s://…", option, text, schemes[0])
	}
	for _, s := range schemes {
		if s != scheme {
			continue
		}
		if strings.HasPrefix(scheme, "unix") {
			if !strings.HasPrefix(rest, "/") {
				return address{}, bad("log opt %s: the path of %q must be absolute", option, text)
			}
			return address{scheme, rest}, nil
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || u.Path != "" && u.Path != "/" {
			return address{}, bad("log opt %s: %q is no address such as %s://host:%s", option, text, scheme, port)
		}
		if p := u.Port(); p != "" {
			port = p
		}
		return address{scheme, net.JoinHostPort(u.Hostname(), port)}, nil
	}
	return address{}, bad("log opt %s: %q must begin with one of %s", option, text, strings.Join(schemes, ", "))
}

// link is a connection that is made anew when it breaks.
type link struct{ conn net.Conn }

func (l *link) close() error {
	if l.conn == nil {
		return nil
	}
	err := l.conn.Close()
	l.conn = nil
	return err
}

func (l *link) open(network, host string) error {
	l.close()
	var err error
	l.conn, err = net.DialTimeout(network, host, dialWait)
	return err
}

func (l *link) openSecure(s *secure, host string) error {
	l.close()
	conn, err := s.open(host)
	if err == nil {
		l.conn = conn
	}
	return err
}

// write sends everything, within bounds.
func (l *link) write(b []byte) error {
	l.conn.SetWriteDeadline(time.Now().Add(sendWait))
	_, err := l.conn.Write(b)
	return err
}
