package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
)

// row is one figure.
type row struct {
	what, who string
	values    []float64 // of which the median is shown
	unit      string
	more      bool   // more is better
	budget    string // the design's, section 9; "" for peers and where it has none
	note      string // why there are no values
	own       bool   // Orlop's best way, to which the others are compared
}

type table struct{ rows []row }

func (t *table) add(r row) { t.rows = append(t.rows, r) }

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// print writes the table. A ratio says how many times better the first row of the
// same thing is, which is Orlop's. Notes follow the table.
func (t *table) print(out io.Writer) {
	base := map[string]float64{}
	var notes []string
	for _, r := range t.rows {
		if base[r.what] == 0 {
			base[r.what] = median(r.values)
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tWHO\tMEDIAN\tLEAST\tMOST\tORLOP IS BETTER\tBUDGET")
	last := ""
	for _, r := range t.rows {
		what := r.what
		if what == last {
			what = ""
		}
		last = r.what
		if len(r.values) == 0 {
			notes = append(notes, fmt.Sprintf("[%d] %s", len(notes)+1, r.note))
			fmt.Fprintf(w, "%s\t%s\t[%d]\t\t\t\t%s\n", what, r.who, len(notes), r.budget)
			continue
		}
		m := median(r.values)
		fmt.Fprintf(w, "%s\t%s\t%s %s\t%s\t%s\t%s\t%s\n", what, r.who, short(m), r.unit,
			short(slices.Min(r.values)), short(slices.Max(r.values)), ratio(r, m, base[r.what]), r.budget)
	}
	w.Flush()
	for _, n := range notes {
		fmt.Fprintln(out, n)
	}
}

func ratio(r row, m, own float64) string {
	if own == 0 || m == 0 || m == own {
		return ""
	}
	if r.more {
		m, own = own, m
	}
	return fmt.Sprintf("%.2f ×", m/own)
}

// short prints three digits.
func short(v float64) string { return strconv.FormatFloat(v, 'f', max(0, digits(v)), 64) }

func digits(v float64) int {
	switch {
	case v >= 100:
		return 0
	case v >= 10:
		return 1
	case v >= 1:
		return 2
	}
	return 3
}
