package engine

import (
	"net/url"
	"path/filepath"
	"strconv"

	api "github.com/moby/moby/api/types/container"

	"github.com/orlop/orlop/internal/logsink"
)

// Log drivers that keep files. Both write the same; "local" is taken for what it
// promises: a log that is bounded and compressed. The other drivers keep such files
// beside, so that logs can be read.
const (
	logJSON  = "json-file"
	logLocal = "local"
	logNone  = "none"
)

// Logs are bounded by default.
const (
	defaultLogSize  = 20 << 20
	defaultLogFiles = 5
	// defaultBuffer is what a log that never holds up its container may lag behind, in bytes.
	defaultBuffer = 1 << 20
)

// LogDrivers are the names of all log drivers.
func LogDrivers() []string { return append(logsink.Drivers(), logJSON, logLocal, logNone) }

// logFiles says how a log's files are kept.
type logFiles struct {
	size     int64
	files    int
	compress bool
	off      bool
	buffer   int64
}

// logOptions checks a log config and reads how files are kept.
func logOptions(l *api.LogConfig) (f logFiles, err error) {
	f = logFiles{size: defaultLogSize, files: defaultLogFiles, compress: l.Type == logLocal, off: l.Type == logNone}
	switch {
	case l.Type == logNone:
		for key := range l.Config {
			return f, invalid("unknown log opt '%s' for none log driver", key)
		}
	case l.Type == logJSON, l.Type == logLocal:
		for key, value := range l.Config {
			if err := f.set(key, value); err != nil {
				return f, err
			}
		}
		if l.Config["mode"] == "non-blocking" && f.buffer == 0 {
			f.buffer = defaultBuffer
		}
		if l.Config["mode"] != "non-blocking" {
			f.buffer = 0
		}
	case logsink.Known(l.Type):
		if err := logsink.Check(&logsink.Config{Driver: l.Type, Options: l.Config}); err != nil {
			return f, invalid("%v", err)
		}
		err = f.cache(l.Config)
	default:
		return f, invalid("logger: no log driver named '%s' is registered", l.Type)
	}
	if err == nil {
		err = checkAttrs(l)
	}
	return f, err
}

// set reads an option of the drivers that keep files.
func (f *logFiles) set(key, value string) (err error) {
	switch key {
	case "max-size":
		f.size, err = parseSize(key, value)
	case "max-file":
		if f.files, err = strconv.Atoi(value); err != nil || f.files < 1 {
			err = invalid("log opt max-file: %q is no number above 0", value)
		}
	case "compress":
		if f.compress, err = strconv.ParseBool(value); err != nil {
			err = invalid("log opt compress: %q is neither true nor false", value)
		}
	case "max-buffer-size":
		f.buffer, err = parseSize(key, value)
	case "mode":
		if value != "blocking" && value != "non-blocking" && value != "" {
			err = invalid("invalid logging mode: %s", value)
		}
	case "labels", "labels-regex", "env", "env-regex", "tag":
	default:
		err = invalid("unknown log opt '%s' for json-file log driver", key)
	}
	return err
}

// cache reads the options of files beside another driver.
func (f *logFiles) cache(opts map[string]string) error {
	f.compress = true
	for key, name := range map[string]string{"cache-max-size": "max-size", "cache-max-file": "max-file", "cache-compress": "compress"} {
		if value, given := opts[key]; given {
			if err := f.set(name, value); err != nil {
				return err
			}
		}
	}
	if text, given := opts["cache-disabled"]; given {
		var err error
		if f.off, err = strconv.ParseBool(text); err != nil {
			return invalid("log opt cache-disabled: %q is neither true nor false", text)
		}
	}
	return nil
}

// parseSize reads a number of bytes such as 10m; -1 is no bound.
func parseSize(key, text string) (int64, error) {
	if text == "-1" {
		return 0, nil
	}
	n, err := logsink.ParseSize(text)
	if err != nil {
		return 0, invalid("log opt %s: %v", key, err)
	}
	return n, nil
}

// readable tells whether a log can be read.
func readable(l *api.LogConfig) bool {
	f, err := logOptions(l)
	return err == nil && !f.off
}

func (e *Engine) logPath(id string) string { return filepath.Join(e.folder(id), id+"-json.log") }

// attachSocket is where the shim serves those who are attached. The name is as
// short as sockets' paths must be, and as unique as 128 bits.
func (e *Engine) attachSocket(id string) string { return filepath.Join(e.at.Sockets, id[:32]) }

// logURI tells the shim where output goes.
func (e *Engine) logURI(c *Container) (string, error) {
	_, host := c.config()
	l := &host.LogConfig
	f, err := logOptions(l)
	if err != nil {
		return "", err
	}
	q := url.Values{"attach": {e.attachSocket(c.ID)}}
	path := "/dev/null"
	if !f.off {
		path = e.logPath(c.ID)
		q.Set("max-size", strconv.FormatInt(f.size, 10))
		q.Set("max-file", strconv.Itoa(f.files))
		q.Set("compress", strconv.FormatBool(f.compress))
	}
	if f.buffer > 0 {
		q.Set("buffer", strconv.FormatInt(f.buffer, 10))
	}
	about, attrs, err := e.describe(c)
	if err != nil {
		return "", err
	}
	for k, v := range attrs {
		q.Set("attr."+k, v)
	}
	if logsink.Known(l.Type) {
		q.Set("driver", l.Type)
		for k, v := range l.Config {
			q.Set("opt."+k, v)
		}
		for k, v := range about.All() {
			q.Set("about."+k, v)
		}
	}
	return (&url.URL{Scheme: "log", Path: path, RawQuery: q.Encode()}).String(), nil
}
