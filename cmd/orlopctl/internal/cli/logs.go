package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
	"github.com/orlop/orlop/internal/logfile"
)

// logsFlags are what is shown of a log.
type logsFlags struct {
	follow, timestamps bool
	tail               int
	since, until       string
}

func (a *app) logsCommand() *cobra.Command {
	var f logsFlags
	cmd := a.command("logs [flags] CONTAINER", "Show what a container has printed",
		"  orlopctl run -d --id web --log log:///var/log/web.log?max-size=10485760 nginx\n  orlopctl tasks logs --follow --tail 10 web", 1, 1, nil)
	cmd.Long = "Logs shows what a container that was run with --log log:///PATH or file:///PATH has printed; each line goes where it went."
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on until the container ends")
	cmd.Flags().IntVar(&f.tail, "tail", -1, "begin with the last N lines; -1 is all")
	cmd.Flags().StringVar(&f.since, "since", "", "leave out what is older: a time (RFC 3339) or an age, such as 10m")
	cmd.Flags().StringVar(&f.until, "until", "", "leave out what is newer")
	cmd.Flags().BoolVarP(&f.timestamps, "timestamps", "t", false, "put the time before each line")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error { return a.logs(ctx, c, args[0], f) })
	return cmd
}

func (a *app) logs(ctx context.Context, c *client.Client, id string, f logsFlags) error {
	api := tasks.NewTasksClient(c.Conn())
	r, err := api.Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return err
	}
	u, err := url.Parse(r.Process.Stdout)
	if err != nil || u.Scheme != "log" && u.Scheme != "file" {
		return fmt.Errorf("container %s keeps no log: run it with --log log:///PATH", id)
	}
	if u.Scheme == "file" {
		return a.plainLog(u.Path)
	}
	q := logfile.Query{Tail: f.tail, Follow: f.follow}
	if q.Since, err = moment(f.since); err == nil {
		q.Until, err = moment(f.until)
	}
	if err != nil {
		return err
	}
	if f.follow {
		ended := make(chan struct{})
		q.Ended = ended
		go func() {
			defer close(ended)
			api.Wait(ctx, &tasks.WaitRequest{ContainerID: id})
		}()
	}
	return logfile.Read(ctx, u.Path, q, func(e logfile.Entry) error { return a.logLine(e, f.timestamps) })
}

// plainLog shows a file that is no more than what was printed.
func (a *app) plainLog(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(a.out, file)
	return err
}

func (a *app) logLine(e logfile.Entry, timestamps bool) error {
	w := a.out
	if e.Stream == logfile.Stderr {
		w = a.err
	}
	if timestamps {
		if _, err := io.WriteString(w, e.Time.Format(fixedNano)+" "); err != nil {
			return err
		}
	}
	_, err := w.Write(e.Line)
	return err
}

// fixedNano is RFC 3339 with all nine digits, so that columns stand.
const fixedNano = "2006-01-02T15:04:05.000000000Z07:00"

// moment reads a time or an age; empty is the zero time.
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if age, err := time.ParseDuration(strings.TrimPrefix(text, "-")); err == nil {
		return time.Now().Add(-age), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, errors.New(text + " is neither a time, such as 2026-01-02T15:04:05Z, nor an age, such as 10m")
	}
	return t, nil
}
