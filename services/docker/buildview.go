package docker

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/orlop/orlop/services/build"
)

// buildView tells how a build goes: in the lines that docker build has always
// printed, or, to clients that draw it themselves, in BuildKit's messages.
type buildView struct {
	mu    sync.Mutex
	out   *jsonStream
	trace bool
	quiet bool

	told  map[string]bool
	lines int // sent
}

func newBuildView(out *jsonStream, trace, quiet bool) *buildView {
	return &buildView{out: out, trace: trace, quiet: quiet, told: map[string]bool{}}
}

// Progress implements build.Listener.
func (v *buildView) Progress(p build.Progress) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.trace {
		data, err := p.Trace()
		if err != nil {
			return err
		}
		return v.out.write(progress{ID: "moby.buildkit.trace", Aux: data})
	}
	for _, x := range p.Steps {
		if err := v.step(x); err != nil {
			return err
		}
	}
	for _, o := range p.Output {
		text := string(o.Text)
		if o.Stderr { // red, as docker build has always sent it
			text = "\x1b[91m" + text + "\x1b[0m"
		}
		if err := v.print(text); err != nil {
			return err
		}
	}
	return nil
}

// numbered are names such as "[build 2/4] RUN make".
var numbered = regexp.MustCompile(`^\[(?:[^\]]* )?(\d+)/(\d+)\] (.*)$`)

func (v *buildView) step(x build.Step) error {
	m := numbered.FindStringSubmatch(x.Name)
	if m == nil {
		return nil // work of the builder's own
	}
	if x.Started && !v.told[x.ID] {
		v.told[x.ID] = true
		if err := v.print(fmt.Sprintf("Step %s/%s : %s\n", m[1], m[2], m[3])); err != nil {
			return err
		}
	}
	if x.Cached && !v.told["cached "+x.ID] && !strings.HasPrefix(m[3], "FROM ") {
		v.told["cached "+x.ID] = true
		return v.print(" ---> Using cache\n")
	}
	return nil
}

func (v *buildView) print(text string) error {
	if v.quiet {
		return nil
	}
	v.lines++
	return v.out.write(progress{Stream: text})
}

// fail ends the stream with an error. Before anything was sent that is an answer of
// its own: then the Dockerfile or the request was wrong.
func (v *buildView) fail(err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	// The code is what docker build ends with.
	e := &jsonstream.Error{Message: err.Error()}
	var ended *build.ExitError
	if errors.As(err, &ended) && !v.trace {
		e.Code, e.Message = ended.Code, fmt.Sprintf("The command '%s' returned a non-zero code: %d", ended.Command, ended.Code)
	}
	if v.trace || v.lines > 0 || e.Code != 0 {
		return ignore(v.out.write(progress{Error: e, Text: e.Message}))
	}
	if status(err) != http.StatusInternalServerError {
		return err
	}
	return badRequest("%v", err)
}

// done tells what was built.
func (v *buildView) done(r build.Result) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.trace {
		return ignore(v.out.write(progress{ID: "moby.image.id", Aux: map[string]string{"ID": r.Digest}}))
	}
	if r.Digest == "" {
		return ignore(v.out.write(progress{Stream: "Successfully built\n"}))
	}
	if v.quiet {
		return ignore(v.out.write(progress{Stream: r.Digest + "\n"}))
	}
	v.out.write(progress{Aux: map[string]string{"ID": r.Digest}})
	_, hex, _ := strings.Cut(r.Digest, ":")
	v.out.write(progress{Stream: "Successfully built " + hex[:12] + "\n"})
	for _, name := range r.Names {
		if strings.HasPrefix(name, build.Dangling+"@") {
			continue
		}
		if err := v.out.write(progress{Stream: "Successfully tagged " + familiarName(name) + "\n"}); err != nil {
			return ignore(err)
		}
	}
	return nil
}
