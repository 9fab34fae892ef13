package local

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"

	"github.com/orlop/orlop/core/mount"
)

// options are a volume's options, read.
type options struct {
	kind, device string
	flags        []string
	quota        int64 // bytes, 0: none
}

// isMount tells that the volume is a file system of its own.
func (o options) isMount() bool { return o.kind != "" }

// optionError is an error in Docker's words.
type optionError struct{ text string }

// Error returns the text.
func (e *optionError) Error() string { return e.text }

// Unwrap returns the class.
func (e *optionError) Unwrap() error { return errdefs.ErrInvalidArgument }

func bad(format string, args ...any) error { return &optionError{fmt.Sprintf(format, args...)} }

// parse reads options: type, device and o as mount(8) takes them, and size.
func parse(in map[string]string) (o options, err error) {
	for key, value := range in {
		switch key {
		case "type":
			o.kind = value
		case "device":
			o.device = value
		case "o":
			o.flags = slices.DeleteFunc(strings.Split(value, ","), func(f string) bool { return f == "" })
		case "size":
			if o.quota, err = units.RAMInBytes(value); err != nil || o.quota <= 0 {
				return o, bad("invalid size %q of a volume", value)
			}
		default:
			return o, bad("invalid option: %q", key)
		}
	}
	if o.kind == "" && o.device == "" && len(o.flags) == 0 {
		if _, ok := in["type"]; !ok {
			return o, nil
		}
	}
	for _, need := range []struct{ key, value string }{{"device", o.device}, {"type", o.kind}} {
		if need.value == "" {
			return o, bad("missing required option: %q", need.key)
		}
	}
	if o.quota > 0 {
		return o, bad("size bounds folders of this host: it can't be given with type=%s; give the file system's own option in o", o.kind)
	}
	return o, nil
}

// Valid implements the port.
func (d *Driver) Valid(in map[string]string) error {
	_, err := parse(in)
	return err
}

// mount is the volume as a mount. The kernel wants addresses, not names, of servers.
func (o options) mount() (mount.Mount, error) {
	m := mount.Mount{Type: o.kind, Source: o.device, Options: slices.Clone(o.flags)}
	if slices.Contains(o.flags, "bind") || slices.Contains(o.flags, "rbind") {
		m.Type = "bind"
	}
	if !strings.HasPrefix(o.kind, "nfs") && o.kind != "cifs" {
		return m, nil
	}
	for i, f := range m.Options {
		host, ok := strings.CutPrefix(f, "addr=")
		if !ok || net.ParseIP(host) != nil {
			continue
		}
		ip, err := net.ResolveIPAddr("ip", host)
		if err != nil {
			return m, fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		m.Options[i] = "addr=" + ip.String()
	}
	return m, nil
}
