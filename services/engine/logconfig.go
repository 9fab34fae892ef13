package engine

import (
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/container"
)

// Log drivers. All but none write the same files; "local" is taken for what it
// promises: a log that is bounded.
const (
	logJSON  = "json-file"
	logLocal = "local"
	logNone  = "none"
)

// Logs are bounded by default.
const (
	defaultLogSize  = 20 << 20
	defaultLogFiles = 5
)

// logLimits checks a log config and reads its bounds.
func logLimits(l *api.LogConfig) (size int64, files int, err error) {
	size, files = defaultLogSize, defaultLogFiles
	switch l.Type {
	case logJSON, logLocal, logNone:
	default:
		return 0, 0, missing("logger: no log driver named '%s' is registered", l.Type)
	}
	for key, value := range l.Config {
		switch {
		case l.Type == logNone:
			err = invalid("unknown log opt '%s' for none log driver", key)
		case key == "max-size":
			size, err = parseSize(value)
		case key == "max-file":
			if files, err = strconv.Atoi(value); err != nil || files < 1 {
				err = invalid("log opt max-file: %q is no number above 0", value)
			}
		case key == "compress" && value == "false", key == "mode" && value == "blocking":
		case key == "compress", key == "mode", key == "max-buffer-size", key == "labels", key == "labels-regex", key == "env", key == "env-regex", key == "tag":
			err = missing("log opt %s=%s is not available yet", key, value)
		default:
			err = invalid("unknown log opt '%s' for %s log driver", key, l.Type)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return size, files, nil
}

// parseSize reads a number of bytes such as 10m; -1 is no bound.
func parseSize(text string) (int64, error) {
	if text == "-1" {
		return 0, nil
	}
	number := strings.TrimSuffix(strings.ToLower(text), "b")
	shift := 0
	if i := strings.IndexAny(number, "kmg"); i >= 0 && i == len(number)-1 {
		shift = 10 * (1 + strings.IndexByte("kmg", number[i]))
		number = number[:i]
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > 1<<(62-shift) {
		return 0, invalid("log opt max-size: %q is no size such as 10m", text)
	}
	return n << shift, nil
}

func (e *Engine) logPath(id string) string { return filepath.Join(e.folder(id), id+"-json.log") }

// attachSocket is where the shim serves those who are attached. The name is as
// short as sockets' paths must be, and as unique as 128 bits.
func (e *Engine) attachSocket(id string) string { return filepath.Join(e.at.Sockets, id[:32]) }

// logURI tells the shim where output goes.
func (e *Engine) logURI(id string, l *api.LogConfig) (string, error) {
	size, files, err := logLimits(l)
	if err != nil {
		return "", err
	}
	q := url.Values{"attach": {e.attachSocket(id)}}
	path := "/dev/null"
	if l.Type != logNone {
		path = e.logPath(id)
		q.Set("max-size", strconv.FormatInt(size, 10))
		q.Set("max-file", strconv.Itoa(files))
	}
	return (&url.URL{Scheme: "log", Path: path, RawQuery: q.Encode()}).String(), nil
}
