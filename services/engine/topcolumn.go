package engine

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processInfo is what /proc tells of a process (proc(5)).
type processInfo struct {
	pid              int
	name, command    string
	stat             []string // fields of stat from the state, the third, on
	uid, gid         uint32
	boot             time.Time
	memory           uint64 // of the machine, in bytes
	began            time.Time
	used, percent    int64 // seconds, and of a hundred
	vsize, rss, nice int64
}

// column is what ps calls a column, and what stands in it.
type column struct {
	title string
	value func(p *processInfo) string
}

// columns are those of ps -o that are known, by its names.
var columns = map[string]column{
	"pid": {"PID", func(p *processInfo) string { return strconv.Itoa(p.pid) }}, "ppid": {"PPID", func(p *processInfo) string { return p.stat[1] }},
	"pgid": {"PGID", func(p *processInfo) string { return p.stat[2] }}, "pgrp": {"PGRP", func(p *processInfo) string { return p.stat[2] }},
	"sid": {"SID", func(p *processInfo) string { return p.stat[3] }}, "sess": {"SESS", func(p *processInfo) string { return p.stat[3] }},
	"user": {"USER", (*processInfo).user}, "euser": {"EUSER", (*processInfo).user}, "uname": {"USER", (*processInfo).user},
	"uid": {"UID", func(p *processInfo) string { return fmt.Sprint(p.uid) }}, "euid": {"EUID", func(p *processInfo) string { return fmt.Sprint(p.uid) }},
	"gid": {"GID", func(p *processInfo) string { return fmt.Sprint(p.gid) }}, "group": {"GROUP", (*processInfo).group},
	"comm": {"COMMAND", func(p *processInfo) string { return p.name }}, "ucmd": {"CMD", func(p *processInfo) string { return p.name }},
	"args": {"COMMAND", func(p *processInfo) string { return p.command }}, "command": {"COMMAND", func(p *processInfo) string { return p.command }},
	"cmd":  {"CMD", func(p *processInfo) string { return p.command }},
	"c":    {"C", func(p *processInfo) string { return strconv.FormatInt(p.percent, 10) }},
	"pcpu": {"%CPU", (*processInfo).cpu}, "%cpu": {"%CPU", (*processInfo).cpu}, "pmem": {"%MEM", (*processInfo).mem}, "%mem": {"%MEM", (*processInfo).mem},
	"vsz": {"VSZ", (*processInfo).virtual}, "vsize": {"VSZ", (*processInfo).virtual},
	"rss": {"RSS", (*processInfo).resident}, "rssize": {"RSS", (*processInfo).resident},
	"tty": {"TT", (*processInfo).tty}, "tt": {"TT", (*processInfo).tty}, "tname": {"TTY", (*processInfo).tty},
	"s": {"S", func(p *processInfo) string { return p.stat[0] }}, "state": {"S", func(p *processInfo) string { return p.stat[0] }},
	"stat":  {"STAT", func(p *processInfo) string { return p.stat[0] + p.flags() }},
	"stime": {"STIME", (*processInfo).start}, "start_time": {"START", (*processInfo).start}, "start": {"STARTED", func(p *processInfo) string { return p.began.Format("15:04:05") }},
	"lstart": {"STARTED", func(p *processInfo) string { return p.began.Format(time.ANSIC) }},
	"time":   {"TIME", (*processInfo).clock}, "cputime": {"TIME", (*processInfo).clock},
	"etimes": {"ELAPSED", func(p *processInfo) string { return strconv.FormatInt(int64(time.Since(p.began).Seconds()), 10) }},
	"ni":     {"NI", func(p *processInfo) string { return strconv.FormatInt(p.nice, 10) }}, "nice": {"NI", func(p *processInfo) string { return strconv.FormatInt(p.nice, 10) }},
	"nlwp": {"NLWP", func(p *processInfo) string { return p.stat[17] }}, "thcount": {"THCNT", func(p *processInfo) string { return p.stat[17] }},
}

// Forms of ps that are lists of columns under other titles.
var (
	psFull = []psColumn{{"user", "UID"}, {"pid", ""}, {"ppid", ""}, {"c", ""}, {"stime", ""}, {"tname", ""}, {"time", ""}, {"cmd", ""}}
	psAux  = []psColumn{{"user", ""}, {"pid", ""}, {"%cpu", ""}, {"%mem", ""}, {"vsz", ""}, {"rss", ""}, {"tname", ""}, {"stat", ""}, {"start_time", ""},
		{"time", ""}, {"args", ""}}
)

// psColumn is a column, with a title of its own if it has one.
type psColumn struct{ name, title string }

// parsePS reads the arguments of ps: -ef, aux, -o and a list, -eo and a list. What chooses
// among processes is not taken: a container's are listed.
func parsePS(args string) ([]psColumn, error) {
	var out []psColumn
	words := strings.Fields(args)
	for i := 0; i < len(words); i++ {
		w := words[i]
		flags := strings.TrimPrefix(w, "-")
		list, given := "", false
		switch {
		case strings.Trim(flags, "eAf") == "" && strings.Contains(flags, "f"):
			out = append(out, psFull...)
		case strings.Trim(flags, "eA") == "" && flags != "":
		case strings.Trim(flags, "aux") == "" && strings.Contains(flags, "u") && w[0] != '-':
			out = append(out, psAux...)
		case strings.Trim(flags, "axw") == "" && flags != "":
		case strings.HasPrefix(w, "--format="):
			list, given = w[len("--format="):], true
		case strings.HasPrefix(strings.TrimLeft(flags, "eAax"), "o"):
			if _, list, _ = strings.Cut(flags, "o"); list == "" && i+1 < len(words) {
				i++
				list = words[i]
			}
			given = true
		default:
			return nil, invalid("ps %s: %q is not known; -ef, aux, and -o with a list of columns are", args, w)
		}
		if !given {
			continue
		}
		for _, name := range strings.Split(list, ",") {
			name, title, _ := strings.Cut(name, "=")
			if _, ok := columns[name]; !ok {
				return nil, invalid("ps %s: the column %q is not known", args, name)
			}
			out = append(out, psColumn{name, title})
		}
	}
	if len(out) == 0 {
		return psFull, nil
	}
	return out, nil
}

// titles are the titles of columns.
func titles(list []psColumn) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = or(c.title, columns[c.name].title)
	}
	return out
}

// readProcess reads a process; nil if it is gone.
func readProcess(pid int, boot time.Time, memory uint64) *processInfo {
	dir := "/proc/" + strconv.Itoa(pid)
	info, err := os.Stat(dir)
	if err != nil {
		return nil
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	data, err := os.ReadFile(dir + "/stat")
	text := string(data)
	name, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if err != nil || !ok || name < 0 || end < name {
		return nil
	}
	p := &processInfo{pid: pid, name: text[name+1 : end], stat: strings.Fields(text[end+1:]), uid: owner.Uid, gid: owner.Gid, boot: boot, memory: memory}
	if len(p.stat) < 22 {
		return nil
	}
	number := func(i int) int64 { n, _ := strconv.ParseInt(p.stat[i], 10, 64); return n }
	p.used, p.nice, p.vsize, p.rss = (number(11)+number(12))/ticks, number(16), number(20), number(21)*int64(os.Getpagesize())
	p.began = boot.Add(time.Duration(number(19)) * time.Second / ticks)
	if age := int64(time.Since(p.began).Seconds()); age > 0 {
		p.percent = p.used * 100 / age
	}
	command, _ := os.ReadFile(dir + "/cmdline")
	p.command = strings.TrimRight(strings.ReplaceAll(string(command), "\x00", " "), " ")
	if p.command == "" {
		p.command = "[" + p.name + "]"
	}
	return p
}

func (p *processInfo) user() string {
	id := strconv.FormatUint(uint64(p.uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func (p *processInfo) group() string {
	id := strconv.FormatUint(uint64(p.gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

func (p *processInfo) cpu() string { return strconv.FormatFloat(float64(p.percent), 'f', 1, 64) }

func (p *processInfo) mem() string {
	return strconv.FormatFloat(100*float64(p.rss)/float64(max(p.memory, 1)), 'f', 1, 64)
}

func (p *processInfo) virtual() string  { return strconv.FormatInt(p.vsize>>10, 10) }
func (p *processInfo) resident() string { return strconv.FormatInt(p.rss>>10, 10) }
func (p *processInfo) start() string    { return p.began.Format("15:04") }

func (p *processInfo) clock() string {
	return fmt.Sprintf("%02d:%02d:%02d", p.used/3600, p.used/60%60, p.used%60)
}

func (p *processInfo) tty() string {
	dev, _ := strconv.ParseInt(p.stat[4], 10, 64)
	return terminal(dev)
}

// flags are what ps puts behind a state.
func (p *processInfo) flags() string {
	out := ""
	if p.nice < 0 {
		out += "<"
	} else if p.nice > 0 {
		out += "N"
	}
	if p.stat[3] == strconv.Itoa(p.pid) {
		out += "s"
	}
	if p.stat[17] != "1" {
		out += "l"
	}
	return out
}

// terminal names a controlling terminal by its device number.
func terminal(dev int64) string {
	if major := unix.Major(uint64(dev)); dev != 0 && major >= 136 && major < 144 {
		return "pts/" + strconv.FormatUint(uint64(unix.Minor(uint64(dev)))+uint64(major-136)<<8, 10)
	}
	return "?"
}
