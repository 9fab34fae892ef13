package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/types/transfer"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

// redraw is how often bars are drawn again.
const redraw = 100 * time.Millisecond

// barWidth is the length of a bar in characters.
const barWidth = 30

// withProgress runs a transfer and shows how it goes: bars on a terminal, a
// line for each step elsewhere, nothing with --quiet or --json. At the end the
// name is printed.
func (a *app) withProgress(name string, do func(client.Progress) error) error {
	if a.quiet || a.json {
		if err := do(nil); err != nil {
			return err
		}
		if name == "" {
			return nil
		}
		return a.done(name)
	}
	width, _, terminal := client.TerminalSize(a.err)
	b := &board{w: a.err, width: int(width), terminal: terminal, begin: time.Now()}
	stop := b.start()
	err := do(b.update)
	stop()
	if err == nil && name != "" {
		err = a.done(name)
	}
	return err
}

// board shows the steps of a transfer. Updates and drawing come from different
// goroutines.
type board struct {
	w        io.Writer
	width    int
	terminal bool
	begin    time.Time

	mu    sync.Mutex // guards what is below
	steps []*step
	drawn int // lines on the terminal
}

// step is one thing that is transferred.
type step struct {
	name, event string
	done, total int64
}

// start begins to draw; the result ends it with a last drawing.
func (b *board) start() (stop func()) {
	if !b.terminal {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(redraw)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.draw()
			case <-done:
				b.draw()
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// update takes a message of the daemon. Without a terminal each change of an
// event is a line.
func (b *board) update(p *transfer.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := p.Name
	if name == "" {
		name = p.Desc.GetDigest()
	}
	i := slices.IndexFunc(b.steps, func(s *step) bool { return s.name == name })
	if i < 0 {
		i = len(b.steps)
		b.steps = append(b.steps, &step{name: name})
	}
	s := b.steps[i]
	changed := s.event != p.Event
	s.event, s.done, s.total = p.Event, p.Progress, max(p.Total, s.total)
	if !b.terminal && changed {
		fmt.Fprintln(b.w, strings.TrimSpace(printable(p.Event)+" "+printable(name)))
	}
}

// draw writes all lines over the ones drawn before.
func (b *board) draw() {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", b.drawn)
	}
	var sum int64
	for _, s := range b.steps {
		sum += s.done
		out.WriteString("\x1b[2K" + cut(s.line(), b.width) + "\n")
	}
	took := time.Since(b.begin)
	rate := int64(float64(sum) / max(took.Seconds(), 0.001))
	fmt.Fprintf(&out, "\x1b[2K%s\n", cut(fmt.Sprintf("%.1fs  %s  %s/s", took.Seconds(), size(sum), size(rate)), b.width))
	b.drawn = len(b.steps) + 1
	io.WriteString(b.w, out.String())
}

// line shows a step: its name, what happens to it, and how far that is.
func (s *step) line() string {
	name := printable(s.name)
	if name == "" {
		return printable(s.event)
	}
	if alg, hex, ok := strings.Cut(name, ":"); ok && len(hex) == 64 {
		name = alg + ":" + hex[:12]
	}
	text := fmt.Sprintf("%-28s %-12s", cut(name, 28), cut(printable(s.event), 12))
	if s.total <= 0 {
		return text
	}
	full := int(min(s.done, s.total) * barWidth / s.total)
	return fmt.Sprintf("%s [%s%s] %s/%s", text, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), size(s.done), size(s.total))
}

// cut shortens text to n characters; 0 leaves it.
func cut(text string, n int) string {
	r := []rune(text)
	if n <= 0 || len(r) <= n {
		return text
	}
	return string(r[:n-1]) + "…"
}
