package registry

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
)

// maxPattern bounds patterns, in bytes.
const maxPattern = 1024

// Pattern chooses repositories or tags by name: * stands for any run of characters
// but slashes, ** for any run at all, everything else for itself. The zero value
// chooses nothing.
type Pattern struct {
	text string
	re   *regexp.Regexp
}

// ParsePattern reads a pattern.
func ParsePattern(text string) (Pattern, error) {
	if text == "" || len(text) > maxPattern {
		return Pattern{}, fmt.Errorf("pattern %.100q: it must have 1 to %d characters: %w", text, maxPattern, errdefs.ErrInvalidArgument)
	}
	var b strings.Builder
	b.WriteString(`\A`)
	for rest := text; rest != ""; {
		i := strings.IndexByte(rest, '*')
		if i < 0 {
			i = len(rest)
		}
		b.WriteString(regexp.QuoteMeta(rest[:i]))
		stars := len(rest[i:]) - len(strings.TrimLeft(rest[i:], "*"))
		switch rest = rest[i+stars:]; {
		case stars == 1:
			b.WriteString(`[^/]*`)
		case stars > 1:
			b.WriteString(`.*`)
		}
	}
	b.WriteString(`\z`)
	re, err := regexp.Compile(b.String())
	if err != nil {
		return Pattern{}, fmt.Errorf("pattern %q: %w: %w", text, err, errdefs.ErrInvalidArgument)
	}
	return Pattern{text, re}, nil
}

// Match tells whether the pattern chooses a name.
func (p Pattern) Match(name string) bool { return p.re != nil && p.re.MatchString(name) }

// String is the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Patterns choose what one of them chooses.
type Patterns []Pattern

// ParsePatterns reads a list of patterns.
func ParsePatterns(texts []string) (Patterns, error) {
	var out Patterns
	for _, text := range texts {
		p, err := ParsePattern(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Match tells whether one of the patterns chooses a name.
func (ps Patterns) Match(name string) bool {
	for _, p := range ps {
		if p.Match(name) {
			return true
		}
	}
	return false
}
