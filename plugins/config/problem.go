package config

import (
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a config file. The zero value means "not from a file".
type Pos struct {
	// File is the path the operator wrote, or "" for values without a file.
	File string
	// Line and Col start at 1; Col counts bytes.
	Line, Col int
}

// String renders file:line:column, the form editors jump to.
func (p Pos) String() string {
	if p.File == "" {
		return ""
	}
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Problem is one mistake, or one warning, about the config.
type Problem struct {
	// Pos is where it is.
	Pos Pos
	// Message says what is wrong, as a phrase without a full stop.
	Message string
	// Hint is what was probably meant, or "".
	Hint string
}

// String renders one line: position, message and suggestion.
func (p Problem) String() string {
	var b strings.Builder
	if at := p.Pos.String(); at != "" {
		b.WriteString(at + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		fmt.Fprintf(&b, " (did you mean %q?)", p.Hint)
	}
	return b.String()
}

// Problems is all that is wrong, an error with one line each.
type Problems []Problem

// Error lists the problems in file order, a line each.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps.sorted() {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns ps as an error, nil if there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps.sorted()
}

// Add appends a problem.
func (ps *Problems) Add(pos Pos, format string, args ...any) {
	*ps = append(*ps, Problem{Pos: pos, Message: fmt.Sprintf(format, args...)})
}

// AddHint appends a problem with a suggestion, which may be empty.
func (ps *Problems) AddHint(pos Pos, hint, format string, args ...any) {
	*ps = append(*ps, Problem{Pos: pos, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// sorted orders by file, then line and column; those without a file come last.
func (ps Problems) sorted() Problems {
	out := slices.Clone(ps)
	slices.SortStableFunc(out, func(a, b Problem) int {
		switch {
		case a.Pos.File != b.Pos.File:
			if a.Pos.File == "" {
				return 1
			}
			if b.Pos.File == "" {
				return -1
			}
			return strings.Compare(a.Pos.File, b.Pos.File)
		case a.Pos.Line != b.Pos.Line:
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Col - b.Pos.Col
	})
	return out
}
