package engine

import (
	"os"
	"strings"
	"testing"
)

func TestPS(t *testing.T) {
	for args, want := range map[string]string{
		"":                      "UID PID PPID C STIME TTY TIME CMD",
		"-ef":                   "UID PID PPID C STIME TTY TIME CMD",
		"aux":                   "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
		"axu":                   "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
		"-o pid,cmd":            "PID CMD",
		"-eo pid,ppid,comm":     "PID PPID COMMAND",
		"-opid -o user=WHO":     "PID WHO",
		"axo pid,%cpu":          "PID %CPU",
		"--format=pid,nlwp,tty": "PID NLWP TT",
		"-o nosuch":             "error",
		"-o":                    "error",
		"--forest":              "error",
		"-p 1":                  "error",
		"; rm":                  "error",
	} {
		list, err := parsePS(args)
		got := strings.Join(titles(list), " ")
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("ps %s: %q, want %q", args, got, want)
		}
	}
	p := readProcess(os.Getpid(), bootTime(), memoryTotal())
	for name, c := range columns {
		if v := c.value(p); v == "" || strings.Contains(v, "\n") {
			t.Errorf("column %s of this process is %q", name, v)
		}
	}
}
