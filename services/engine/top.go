package engine

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"
)

// TopTitles are the columns of Top, those of ps -ef.
var TopTitles = []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}

// Top lists a container's processes as ps -ef would, from /proc.
func (e *Engine) Top(ctx context.Context, ref string) ([][]string, error) {
	c, err := e.mustRun(ref)
	if err != nil {
		return nil, err
	}
	ctx = e.in(ctx)
	t, err := e.Tasks.Get(ctx, c.ID)
	resp := &wire.PidsResponse{}
	if err == nil {
		err = t.Call(ctx, "Pids", &wire.PidsRequest{ID: c.ID}, resp)
	}
	if err != nil {
		return nil, err
	}
	out := [][]string{}
	boot := bootTime()
	for _, p := range resp.Processes {
		if row := processRow(int(p.Pid), boot); row != nil {
			out = append(out, row)
		}
	}
	e.tell(c, "top")
	return out, nil
}

func bootTime() time.Time {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second)
}

// processRow is a line of ps; nil for a process that is gone (proc(5), /proc/pid/stat).
func processRow(pid int, boot time.Time) []string {
	dir := "/proc/" + strconv.Itoa(pid)
	st, err := os.Stat(dir)
	if err != nil {
		return nil
	}
	data, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil
	}
	text := string(data)
	name, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if name < 0 || end < name {
		return nil
	}
	f := strings.Fields(text[end+1:]) // from state on, the third field
	if len(f) < 20 {
		return nil
	}
	number := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return n }
	used := (number(11) + number(12)) / ticks
	began := boot.Add(time.Duration(number(19)) * time.Second / ticks)
	percent := int64(0)
	if age := int64(time.Since(began).Seconds()); age > 0 {
		percent = used * 100 / age
	}
	command, _ := os.ReadFile(dir + "/cmdline")
	cmd := strings.TrimRight(strings.ReplaceAll(string(command), "\x00", " "), " ")
	if cmd == "" {
		cmd = "[" + text[name+1:end] + "]"
	}
	return []string{owner(st), strconv.Itoa(pid), f[1], strconv.FormatInt(percent, 10), began.Format("15:04"), terminal(number(4)),
		fmt.Sprintf("%02d:%02d:%02d", used/3600, used/60%60, used%60), cmd}
}

// owner names the user of a process.
func owner(st os.FileInfo) string {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return "?"
	}
	id := strconv.FormatUint(uint64(sys.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// terminal names a controlling terminal by its device number.
func terminal(dev int64) string {
	if major := dev >> 8 & 0xfff; dev != 0 && major >= 136 && major < 144 {
		return "pts/" + strconv.FormatInt(dev&0xff|dev>>12&0xfff00, 10)
	}
	return "?"
}
