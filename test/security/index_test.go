package security

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// attacks is how many rows the index has: it only grows.
const attacks = 33

// TestIndex checks that each attack of README.md has tests, and that they are there.
func TestIndex(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, wrong := checkIndex(string(text), "../..")
	for _, w := range wrong {
		t.Error(w)
	}
	if rows < attacks {
		t.Errorf("README.md has %d attacks, there were %d", rows, attacks)
	}
}

// TestIndexFails feeds the check what it must not let pass.
func TestIndexFails(t *testing.T) {
	const row = "| where | known as | "
	for name, table := range map[string]string{
		"no test":            row + "none |",
		"unknown folder":     row + "`test/nowhere: TestIndex` |",
		"unknown function":   row + "`test/security: TestIndexe` |",
		"part of a function": row + "`test/security: TestInde` |",
		"unknown script":     row + "`test/script/docker/nothing.txtar: A line` |",
		"unknown line":       row + "`test/script/docker/attack.txtar: No such line` |",
		"no name":            row + "`test/security` |",
	} {
		if _, wrong := checkIndex("|---|---|---|\n"+table, "../.."); len(wrong) == 0 {
			t.Errorf("%s: nothing is wrong with %q", name, table)
		}
	}
	if rows, wrong := checkIndex("|---|---|---|\n"+row+"`test/security: TestIndex` |", "../.."); rows != 1 || len(wrong) > 0 {
		t.Errorf("%d rows, %v", rows, wrong)
	}
}

var quoted = regexp.MustCompile("`([^`]+)`")

// checkIndex counts the rows of a table's third column and tells what is wrong with them.
func checkIndex(text, root string) (rows int, wrong []string) {
	_, table, _ := strings.Cut(text, "|---|---|---|\n")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 {
			continue
		}
		rows++
		known := strings.TrimSpace(cells[0]) + ", " + strings.TrimSpace(cells[1])
		tests := quoted.FindAllStringSubmatch(cells[2], -1)
		if len(tests) == 0 {
			wrong = append(wrong, known+": no test")
		}
		for _, m := range tests {
			if err := findTest(root, m[1]); err != nil {
				wrong = append(wrong, fmt.Sprintf("%s: %s: %v", known, m[1], err))
			}
		}
	}
	return rows, wrong
}

// findTest finds "folder: Function", or "script.txtar: beginning of a comment".
func findTest(root, text string) error {
	place, name, ok := strings.Cut(text, ": ")
	if !ok {
		return fmt.Errorf("it is not like place: name")
	}
	files, want := []string{filepath.Join(root, place)}, "\n# "+name
	if filepath.Ext(place) != ".txtar" {
		want = "\nfunc " + name + "(t *testing.T)"
		var err error
		if files, err = filepath.Glob(filepath.Join(root, place, "*_test.go")); err != nil {
			return err
		}
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if strings.Contains("\n"+string(data), want) {
			return nil
		}
	}
	return fmt.Errorf("there is none")
}
