package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	admin "github.com/orlop/orlop/api/orlop/admin/v1"
	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

type removedRow struct {
	Namespace   string `json:"namespace"`
	Kind        string `json:"kind"`
	ID          string `json:"id"`
	Snapshotter string `json:"snapshotter"`
	Bytes       uint64 `json:"bytes"`
}

type gcResult struct {
	DryRun    bool         `json:"dryRun"`
	Removed   []removedRow `json:"removed"`
	Kept      uint64       `json:"kept"`
	Bytes     uint64       `json:"bytes"`
	PauseUsec int64        `json:"pauseUsec"`
	TookUsec  int64        `json:"tookUsec"`
}

func (a *app) gcCommand() *cobra.Command {
	run := a.command("run", "Collect garbage now, in all namespaces", "  orlopctl gc run\n  orlopctl gc run --dry-run", 0, 0, nil)
	dry := run.Flags().Bool("dry-run", false, "only tell what would be removed")
	a.work(run, func(ctx context.Context, c *client.Client, _ []string) error { return a.gc(ctx, c, *dry) })
	return a.parent("gc", "The collector removes what neither an image nor a container nor a lease refers to.", run)
}

func (a *app) gc(ctx context.Context, c *client.Client, dry bool) error {
	r, err := admin.NewAdminClient(c.Conn()).GC(ctx, &admin.GCRequest{DryRun: dry})
	if err != nil {
		return err
	}
	result := gcResult{DryRun: dry, Removed: []removedRow{}, Kept: r.Kept, Bytes: r.Bytes,
		PauseUsec: r.Pause.AsDuration().Microseconds(), TookUsec: r.Took.AsDuration().Microseconds()}
	for _, x := range r.Removed {
		result.Removed = append(result.Removed, removedRow{x.Namespace, x.Kind, x.Id, x.Snapshotter, x.Bytes})
	}
	if a.json {
		return a.printJSON(result)
	}
	err = list(a, result.Removed,
		column[removedRow]{"ID", func(r removedRow) string { return r.ID }},
		column[removedRow]{"KIND", func(r removedRow) string { return strings.TrimSpace(r.Kind + " " + r.Snapshotter) }},
		column[removedRow]{"NAMESPACE", func(r removedRow) string { return r.Namespace }},
		column[removedRow]{"SIZE", func(r removedRow) string { return size(int64(r.Bytes)) }})
	if err != nil || a.quiet {
		return err
	}
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	_, err = fmt.Fprintf(a.out, "%s %d, kept %d, %s; %v, writers waited %v\n", verb, len(result.Removed), r.Kept, size(int64(r.Bytes)),
		r.Took.AsDuration().Round(time.Microsecond), r.Pause.AsDuration().Round(time.Microsecond))
	return err
}

type findingRow struct {
	Severity    string `json:"severity"`
	Code        string `json:"code"`
	Namespace   string `json:"namespace"`
	Kind        string `json:"kind"`
	ID          string `json:"id"`
	Message     string `json:"message"`
	Repaired    bool   `json:"repaired"`
	RepairError string `json:"repairError"`
}

type fsckResult struct {
	Checked  uint64       `json:"checked"`
	Bytes    uint64       `json:"bytes"`
	Findings []findingRow `json:"findings"`
}

func (a *app) fsckCommand() *cobra.Command {
	cmd := a.command("fsck", "Look for damage in the stores, and mend it", "  orlopctl fsck\n  orlopctl fsck --repair --verify", 0, 0, nil)
	cmd.Long = "Fsck compares the daemon's stores with each other. The exit code is 1 if something is wrong that was not mended."
	repair := cmd.Flags().Bool("repair", false, "mend what can be mended; damaged blobs are fetched again")
	verify := cmd.Flags().Bool("verify", false, "read every blob and compare its digest")
	a.work(cmd, func(ctx context.Context, c *client.Client, _ []string) error {
		return a.fsck(ctx, c, &admin.FsckRequest{Repair: *repair, VerifyContent: *verify})
	})
	return cmd
}

func (a *app) fsck(ctx context.Context, c *client.Client, q *admin.FsckRequest) error {
	stream, err := admin.NewAdminClient(c.Conn()).Fsck(ctx, q)
	if err != nil {
		return err
	}
	result := fsckResult{Findings: []findingRow{}}
	open, done := 0, false
	for !done {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("the daemon ended the check before it was complete")
		}
		if err != nil {
			return err
		}
		result.Checked, result.Bytes, done = m.Checked, m.Bytes, m.Done
		if m.Finding == nil {
			continue
		}
		f := findingOf(m.Finding)
		result.Findings = append(result.Findings, f)
		if !f.Repaired && m.Finding.Severity != admin.Severity_SEVERITY_NOTE {
			open++
		}
		if !a.json {
			fmt.Fprintln(a.out, f)
		}
	}
	if a.json {
		err = a.printJSON(result)
	} else if !a.quiet {
		_, err = fmt.Fprintf(a.out, "checked %d objects, read %s: %d findings\n", result.Checked, size(int64(result.Bytes)), len(result.Findings))
	}
	if err == nil && open > 0 {
		err = fmt.Errorf("%d things are wrong", open)
	}
	return err
}

func findingOf(f *admin.Finding) findingRow {
	return findingRow{word(f.Severity, "SEVERITY_"), f.Code, f.Namespace, f.Kind, f.Id, f.Message, f.Repaired, f.RepairError}
}

// String is the finding on one line.
func (f findingRow) String() string {
	s := fmt.Sprintf("%s: %s: %s", f.Severity, f.Code, printable(f.Message))
	where := strings.TrimSpace(f.Kind + " " + printable(f.ID))
	if f.Namespace != "" {
		where += " in " + printable(f.Namespace)
	}
	if where != "" {
		s += " (" + where + ")"
	}
	switch {
	case f.Repaired:
		s += ": mended"
	case f.RepairError != "":
		s += ": not mended: " + printable(f.RepairError)
	}
	return s
}
