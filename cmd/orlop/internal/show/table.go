// Package show prints lists and details in the formats that docker's users know: tables,
// "json", and Go templates.
package show

import (
	"strings"

	"github.com/docker/cli/cli/command/formatter"

	"github.com/orlop/orlop/cmd/internal/session"
)

// Row is one line of a list, by the names that templates use.
type Row map[string]any

// FullHeader is what tables are headed by; only the list's own is asked.
func (r Row) FullHeader() any { return nil }

// List is how a noun is listed.
type List struct {
	// Columns are the table's default ones, by the names of templates.
	Columns []string
	// Headers are headings that aren't the name in upper case.
	Headers map[string]string
	// ID is what --quiet prints; "" is ID.
	ID string
}

type head map[string]string

func (h head) FullHeader() any { return map[string]string(h) }

// Print writes rows in the given format; the user's own comes from their settings.
func (l List) Print(s *session.Session, format, users string, quiet bool, rows []Row) error {
	heads := head{}
	for _, r := range rows[:min(len(rows), 1)] {
		for name := range r {
			heads[name] = l.header(name)
		}
	}
	for _, name := range l.Columns {
		heads[name] = l.header(name)
	}
	ctx := formatter.Context{Output: s.Out, Format: formatter.Format(l.format(format, users, quiet))}
	return ctx.Write(heads, func(write func(formatter.SubContext) error) error {
		for _, r := range rows {
			if err := write(r); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l List) header(name string) string {
	if h, ok := l.Headers[name]; ok {
		return h
	}
	return strings.ToUpper(name)
}

func (l List) format(format, users string, quiet bool) string {
	switch {
	case quiet && l.ID != "":
		return "{{." + l.ID + "}}"
	case quiet:
		return "{{.ID}}"
	case format != "" && format != formatter.TableFormatKey:
		return format
	case format == "" && users != "":
		return users
	}
	return "table {{." + strings.Join(l.Columns, "}}\t{{.") + "}}"
}
