package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/network/namespace"
)

// ownersFolder has the user namespaces that own sandboxes' network namespaces.
func (s *Service) ownersFolder() string { return filepath.Join(s.config.State, "users") }

func (s *Service) ownerPath(id string) string { return filepath.Join(s.ownersFolder(), id) }

// take returns a new network namespace, which belongs to a user namespace of its own
// if maps are given: only who is in that may be root in it.
func (s *Service) take(maps *userns.Maps) (net, user *os.File, err error) {
	if maps == nil {
		net, err = s.ready.take()
		return net, nil, err
	}
	n, err := userns.New(*maps, true)
	if err != nil {
		return nil, nil, err
	}
	space, err := namespace.Open(fmt.Sprintf("/proc/self/fd/%d", n.Network.Fd()))
	if err != nil {
		return nil, nil, errors.Join(err, n.Close())
	}
	defer space.Close()
	err = space.Do(func() error {
		f, err := prepare()
		if err == nil {
			err = f.Close()
		}
		return err
	})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("new network namespace: %w", err), n.Close())
	}
	return n.Network, n.User, nil
}

// mountNamespace gives a namespace a name, by which it stays.
func mountNamespace(f *os.File, path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), path, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("mount of namespace %s: %w", path, err), os.Remove(path))
	}
	return nil
}
