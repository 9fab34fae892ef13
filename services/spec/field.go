package spec

import "strings"

// pair is one key=value of a comma-separated list.
type pair struct{ key, value string }

// splitFields splits "a=1,b,c=2" into its pairs.
func splitFields(text string) []pair {
	var out []pair
	for _, f := range splitList(text, ',') {
		key, value, _ := strings.Cut(f, "=")
		out = append(out, pair{strings.ToLower(strings.TrimSpace(key)), value})
	}
	return out
}

// splitList splits at sep and leaves out empty parts.
func splitList(text string, sep rune) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == sep })
}
