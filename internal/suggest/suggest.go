// Package suggest finds the word a person probably meant.
//
// It is pure and safe for concurrent use.
package suggest

import "strings"

// maxWord bounds the words compared, since the distance costs their product.
const maxWord = 256

// Closest returns the candidate nearest to word by edit distance, or "" if none
// is near enough to be worth proposing: a third of the word's length, at the
// least one edit. The first of equals wins.
func Closest(word string, candidates []string) string {
	if len(word) > maxWord {
		return ""
	}
	limit := max(1, len(word)/3)
	best, at := "", limit+1
	for _, c := range candidates {
		if c == word || len(c) > maxWord {
			continue
		}
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < at {
			best, at = c, d
		}
	}
	if best == "" {
		return bySuffix(word, candidates)
	}
	return best
}

// bySuffix proposes the one candidate whose last part is word, so that
// "overlayfs" finds "io.containerd.snapshotter.v1.overlayfs".
func bySuffix(word string, candidates []string) string {
	found := ""
	for _, c := range candidates {
		if strings.HasSuffix(c, "."+word) {
			if found != "" {
				return ""
			}
			found = c
		}
	}
	return found
}

// distance is the number of insertions, deletions, substitutions and swaps of
// neighbours that turn a into b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
