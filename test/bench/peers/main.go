// Peers measures Orlop beside the container engines found on this machine, in
// one run, and prints medians, ratios and budgets as a table. It is a
// benchmark: it fails only if something doesn't work, never for being slow.
//
//	go run ./test/bench/peers [-rounds N] [-only start,bridge,exec,many,memory,pull]
//
// Daemons make bridges and rules where it runs: unshare --net keeps them apart.
//
// It needs root, the programs in bin/ and what test/deps.sh installs. Every
// daemon is a private one, with its root on an ext4 made for it in a file on a
// loop device: ext4 that has just deleted many files is slow to make others,
// which would distort what comes after a removal. Rounds go around all peers, so
// that what else the machine does meets all alike.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// measure is one of the things that are measured.
type measure struct {
	name string
	run  func(*bench) error
}

var measures = []measure{
	{"start", (*bench).starts},
	{"bridge", (*bench).bridges},
	{"exec", (*bench).execs},
	{"many", (*bench).many},
	{"memory", (*bench).memory},
	{"pull", (*bench).pulls},
}

// bench is one run of the program.
type bench struct {
	dir      string // everything is below it
	bin      string // Orlop's programs
	rounds   int
	registry *registry
	table    table
	undo     []func() error
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	rounds := flag.Int("rounds", 15, "how often each thing is measured")
	only := flag.String("only", "", "measures to take, by commas: start, bridge, exec, many, memory, pull")
	bin := flag.String("bin", "bin", "folder of Orlop's programs")
	flag.Parse()
	if os.Geteuid() != 0 {
		return errors.New("it starts containers and mounts file systems: run it as root")
	}
	if *rounds < 1 || *rounds > 10000 {
		return fmt.Errorf("%d rounds: it must be 1 to 10000", *rounds)
	}
	b := &bench{rounds: *rounds}
	if b.bin, err = filepath.Abs(*bin); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "orlop-peers-"); err != nil {
		return err
	}
	b.later(func() error { return os.RemoveAll(b.dir) })
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepare(); err != nil {
		return err
	}
	for _, m := range measures {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), m.name) {
			continue
		}
		if err := m.run(b); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	b.table.print(os.Stdout)
	return nil
}

// later registers what ends the run, last first.
func (b *bench) later(fn func() error) { b.undo = append(b.undo, fn) }

func (b *bench) close() error {
	var errs []error
	for _, fn := range slices.Backward(b.undo) {
		errs = append(errs, fn())
	}
	return errors.Join(errs...)
}

func (b *bench) path(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}

func (b *bench) prepare() error {
	for _, program := range []string{"orlopd", "orlop", "orlopctl", "orlop-runtime", "containerd-shim-orlop-v1"} {
		if _, err := os.Stat(filepath.Join(b.bin, program)); err != nil {
			return fmt.Errorf("%w: make build makes it", err)
		}
	}
	r, err := b.startRegistry()
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	b.registry = r
	return nil
}
