package build

import (
	"context"
	"io"
	"log"
	"strings"

	"github.com/moby/buildkit/util/bklog"
	"github.com/sirupsen/logrus"
)

// quietly has BuildKit's messages in the daemon's log on levels that fit there: what it
// does by the way is for those who debug, and that a client has gone is no error.
func quietly() {
	own := logrus.New()
	own.SetOutput(io.Discard)
	own.SetLevel(logrus.DebugLevel)
	own.AddHook(relay{logrus.StandardLogger()})
	entry := logrus.NewEntry(own)
	bklog.L = entry
	bklog.G = func(context.Context) *logrus.Entry { return entry }
}

// relay passes messages on.
type relay struct{ to *logrus.Logger }

// Levels are all.
func (r relay) Levels() []logrus.Level { return logrus.AllLevels }

// connections is the log of HTTP: that a client has gone before it said anything, as
// buildx does when it tries what there is, is for those who debug.
var connections = log.New(debugWriter{}, "", 0)

type debugWriter struct{}

// Write writes a message.
func (debugWriter) Write(p []byte) (int, error) {
	logrus.Debug(strings.TrimSpace(string(p)))
	return len(p), nil
}

// usual begins warnings and errors of things that happen in every build.
var usual = []string{"no trace recorder found", "healthcheck failed", "failed to update distribution source", "failed to read oom_kill event"}

// Fire writes a message at its level, or as one for debugging.
func (r relay) Fire(e *logrus.Entry) error {
	level := e.Level
	if level == logrus.InfoLevel {
		level = logrus.DebugLevel
	}
	for _, text := range usual {
		if strings.HasPrefix(e.Message, text) {
			level = logrus.DebugLevel
		}
	}
	if r.to.IsLevelEnabled(level) {
		r.to.WithFields(e.Data).WithTime(e.Time).Log(level, e.Message)
	}
	return nil
}
