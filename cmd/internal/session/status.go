package session

import (
	"fmt"
	"strings"

	"github.com/moby/moby/client"
)

// Status ends the program with an exit code, after printing the reason, if any.
type Status struct {
	Code   int
	Reason string
}

func (s Status) Error() string {
	if s.Reason != "" {
		return s.Reason
	}
	return fmt.Sprintf("exit status %d", s.Code)
}

// Exit codes that docker's users know.
const (
	CodeUsage         = 125 // the engine refused, or a flag was wrong
	CodeNotExecutable = 126
	CodeNotFound      = 127
)

// Message is an error as it is shown.
func Message(err error) string {
	text := err.Error()
	if client.IsErrConnectionFailed(err) {
		return text + "\nStart it with: orlopd (see `orlop --help` for --host and --context)"
	}
	if strings.HasPrefix(text, "Error response from daemon:") {
		return text
	}
	return "Error: " + text
}

// StartFailure gives an error of a start the code that shells use: 127 if the
// command isn't there, 126 if it can't be run, 125 for the rest.
func StartFailure(err error) error {
	text := err.Error()
	code := CodeUsage
	switch {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory"),
		strings.Contains(text, "system cannot find the file specified"):
		code = CodeNotFound
	case strings.Contains(text, "permission denied"), strings.Contains(text, "is a directory"):
		code = CodeNotExecutable
	}
	return Status{Code: code, Reason: "orlop: " + text}
}
