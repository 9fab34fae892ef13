package cli

import (
	"errors"
	"fmt"
)

// each does something for every name and prints those it was done for. One that
// fails doesn't keep the others from being done.
func (a *app) each(names []string, do func(name string) error) error {
	var errs []error
	var ok []string
	for _, name := range names {
		if err := do(name); err != nil {
			errs = append(errs, errors.New(a.explain(fmt.Errorf("%s: %w", name, err))))
			continue
		}
		ok = append(ok, name)
	}
	if len(ok) > 0 || a.json {
		errs = append(errs, a.done(ok...))
	}
	return errors.Join(errs...)
}
