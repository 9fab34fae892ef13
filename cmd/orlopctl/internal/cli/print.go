package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// column is one column of a table of T.
type column[T any] struct {
	head string
	cell func(T) string
}

// list prints rows: as JSON, as the first column only with --quiet, or as a
// table. It is never null in JSON.
func list[T any](a *app, rows []T, columns ...column[T]) error {
	if a.json {
		if rows == nil {
			rows = []T{}
		}
		return a.printJSON(rows)
	}
	if a.quiet {
		for _, r := range rows {
			fmt.Fprintln(a.out, columns[0].cell(r))
		}
		return nil
	}
	var t table
	var heads []string
	for _, c := range columns {
		heads = append(heads, c.head)
	}
	t.add(heads...)
	for _, r := range rows {
		var cells []string
		for _, c := range columns {
			cells = append(cells, c.cell(r))
		}
		t.add(cells...)
	}
	return t.print(a.out)
}

// show prints one thing: as JSON, or as lines of name and value.
func (a *app) show(v any, lines ...string) error {
	if a.json {
		return a.printJSON(v)
	}
	var t table
	for i := 0; i+1 < len(lines); i += 2 {
		t.add(lines[i]+":", lines[i+1])
	}
	return t.print(a.out)
}

// done prints what a command has made or removed: its name, or JSON.
func (a *app) done(names ...string) error {
	if a.json {
		return a.printJSON(map[string][]string{"names": slices.Clip(names)})
	}
	for _, n := range names {
		fmt.Fprintln(a.out, n)
	}
	return nil
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table is text in columns.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print aligns the columns with two blanks between them. Control characters,
// which names from outside may hold, are shown and not sent to the terminal.
func (t *table) print(w io.Writer) error {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			row[i] = printable(cell)
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n"))
	return err
}

// printable replaces control characters by their Go escapes.
func printable(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	q := fmt.Sprintf("%q", s)
	return q[1 : len(q)-1]
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 }

// size renders bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for v >= unit && i < 4 {
		v, i = v/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[i])
}

// age renders a time as how long ago it was.
func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// when converts a timestamp of a message; none becomes the zero time.
func when(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// labelText renders labels on one line, in order.
func labelText(labels map[string]string) string {
	if len(labels) == 0 {
		return "-"
	}
	var out []string
	for k, v := range labels {
		if v == "" {
			out = append(out, k)
			continue
		}
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// short cuts a digest for tables.
func short(digest string) string {
	alg, hex, ok := strings.Cut(digest, ":")
	if ok && len(hex) > 12 {
		return alg + ":" + hex[:12]
	}
	return digest
}

// labelChanges reads key=value and key- (or key=) arguments into new values and
// the paths of a field mask.
func labelChanges(args []string) (labels map[string]string, paths []string, err error) {
	labels = map[string]string{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			if !strings.HasSuffix(key, "-") {
				return nil, nil, fmt.Errorf("label %q is neither key=value nor key-", arg)
			}
			key = strings.TrimSuffix(key, "-")
		}
		if key == "" {
			return nil, nil, fmt.Errorf("label %q has no key", arg)
		}
		labels[key] = value
		paths = append(paths, "labels."+key)
	}
	return labels, paths, nil
}

// newLabels reads key=value flags.
func newLabels(args []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		if key == "" {
			return nil, fmt.Errorf("label %q has no key", arg)
		}
		labels[key] = value
	}
	return labels, nil
}

// compact takes away the blanks that protojson puts in at random.
func compact(data []byte) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return data
	}
	return b.Bytes()
}
