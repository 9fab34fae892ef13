package volume

import (
	"context"
	"errors"

	"github.com/orlop/orlop/core/volume"
)

// enter notes that who uses or holds a volume.
func (s *Service) enter(in map[string]map[string]bool, name, who string) {
	if who == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if in[name] == nil {
		in[name] = map[string]bool{}
	}
	in[name][who] = true
}

// leave forgets that, and tells how many are left.
func (s *Service) leave(in map[string]map[string]bool, name, who string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(in[name], who)
	left := len(in[name])
	if left == 0 {
		delete(in, name)
	}
	return left
}

// Hold notes at the start that a container names a volume and, if it runs, uses it.
func (s *Service) Hold(name, who string, runs bool) {
	s.enter(s.holders, name, who)
	if runs {
		s.enter(s.users, name, who)
	}
}

// Drop ends holding a volume.
func (s *Service) Drop(name, who string) { s.leave(s.holders, name, who) }

// Use makes a volume's files be at its path until [Service.Done].
func (s *Service) Use(ctx context.Context, name, who string) (path string, err error) {
	ctx = s.in(ctx)
	defer s.lock(name)()
	v, d, err := s.find(ctx, name)
	if err != nil {
		return "", err
	}
	if err := d.Mount(ctx, v); err != nil {
		return "", err
	}
	s.enter(s.users, name, who)
	return d.Path(name), nil
}

func (s *Service) find(ctx context.Context, name string) (volume.Volume, Driver, error) {
	v, err := s.Get(ctx, name)
	if err != nil {
		return v, nil, err
	}
	d, err := s.driver(v.Driver)
	return v, d, err
}

// Done ends using a volume. The last one unmounts it.
func (s *Service) Done(ctx context.Context, name, who string) error {
	ctx = s.in(context.WithoutCancel(ctx))
	defer s.lock(name)()
	if s.leave(s.users, name, who) > 0 {
		return nil
	}
	v, d, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	return d.Unmount(ctx, v)
}

// Settle unmounts what nobody uses, once all holders and users of an earlier run are
// known.
func (s *Service) Settle(ctx context.Context) error {
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range all {
		errs = append(errs, s.Done(ctx, v.Name, ""))
	}
	return errors.Join(errs...)
}

// Fill lets fn write the first files of an empty volume, as the image has them: all
// of them appear, or none.
func (s *Service) Fill(ctx context.Context, name, who string, fn func(dir string) error) (err error) {
	ctx = s.in(ctx)
	if _, err := s.Use(ctx, name, who+" (filling)"); err != nil {
		return err
	}
	defer s.endUse(ctx, name, who+" (filling)")
	defer s.lock(name)()
	v, d, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	used := len(s.users[name]) > 1
	s.mu.Unlock()
	return d.Fill(ctx, v, used, fn)
}
