package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/userns"
	port "github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/dns"
)

// Wish is how a sandbox would like to be connected to a network.
type Wish struct {
	// Network is the network's ID or name.
	Network string
	// IPv4 and IPv6 are the addresses it would like; the zero value is any.
	IPv4, IPv6 netip.Addr
	// LinkLocal are further addresses of the link alone.
	LinkLocal []netip.Addr
	// MAC is its hardware address, 6 bytes; nil derives it from the first address.
	MAC []byte
	// Names are what others on the network call it by, the first is what its address
	// is called. On the default bridge nobody has a name.
	Names []string
	// Links are names of others under which this sandbox alone knows them, by the
	// name that it uses.
	Links map[string]string
	// Options are in the words of Docker's users.
	Options map[string]string
	// Priority decides which network has the default route: the highest, and of
	// equals the one whose name comes first.
	Priority int
}

// Plan is a sandbox that is to be made.
type Plan struct {
	// ID is the container's, 64 hexadecimal digits or another name that is a file's.
	ID string
	// Name is shown to people.
	Name   string
	Wishes []Wish
	// Ports are published at the network that has the default route.
	Ports []port.Port
	// Servers are asked for names instead of those of [Config.Naming].
	Servers []netip.Addr
	// Users, where set, makes the namespace belong to a new user namespace of these ids.
	Users *userns.Maps
	// NoIPv6 tells that its settings turn IPv6 off for all interfaces: it has none on
	// networks that have.
	NoIPv6 bool
}

// Endpoint is one connection of a sandbox.
type Endpoint struct {
	port.Endpoint
	// NetworkName is the network's name.
	NetworkName string
	// Internal is the network's.
	Internal bool `json:",omitempty"`
	// Gateway4 and Gateway6 are the network's.
	Gateway4, Gateway6 netip.Addr
	Priority           int               `json:",omitempty"`
	Links              map[string]string `json:",omitempty"`
	Sysctls            []string          `json:",omitempty"`
}

// Sandbox is a sandbox as it is at one moment.
type Sandbox struct {
	ID   string
	Name string
	// Path is where its namespace is mounted.
	Path string
	// Users is where the user namespace is mounted that its namespace belongs to; empty
	// is the host's.
	Users string `json:",omitempty"`
	// Endpoints are its connections, the one with the default route first.
	Endpoints []Endpoint
	// Resolver tells that names are resolved at [dns.Address] in it.
	Resolver bool
	// NoIPv6 tells that it has no IPv6 on any network.
	NoIPv6 bool `json:",omitempty"`
	// Servers are asked for what isn't known here; none means the host's.
	Servers []netip.AddrPort `json:",omitempty"`
	// Ports are what it publishes, by way of whichever connections: see publish.go.
	Ports []port.Port `json:",omitempty"`
}

// sandbox is one with what is kept open for it.
type sandbox struct {
	op sync.Mutex // held while it is connected or left
	Sandbox
	resolver *dns.Resolver
	found    bool // an earlier daemon made it
	// connected tells that people were told of its connections.
	connected bool
}

// Sandbox returns a sandbox; false if there is none.
func (s *Service) Sandbox(id string) (Sandbox, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.sandboxes[id]
	if b == nil {
		return Sandbox{}, false
	}
	out := b.Sandbox
	out.Endpoints = slices.Clone(b.Endpoints)
	return out, true
}

// endpoint finds a connection by its network's ID. Called with Service.mu held.
func (b *sandbox) endpoint(network string) *Endpoint {
	for i := range b.Endpoints {
		if b.Endpoints[i].Network == network {
			return &b.Endpoints[i]
		}
	}
	return nil
}

// checkID keeps IDs from being paths.
func checkID(id string) error {
	if id == "" || len(id) > 128 || strings.ContainsAny(id, "/\x00") || strings.HasPrefix(id, ".") {
		return fmt.Errorf("sandbox ID %q: %w", id, errdefs.ErrInvalidArgument)
	}
	return nil
}

func (s *Service) spacePath(id string) string  { return filepath.Join(s.spaceFolder(), id) }
func (s *Service) recordPath(id string) string { return filepath.Join(s.recordFolder(), id) }

// save writes a sandbox's file. The folder is emptied by a reboot, and with it go the
// interfaces: so nothing waits for a disk.
func (s *Service) save(b *sandbox) error {
	now, _ := s.Sandbox(b.ID)
	data, err := json.Marshal(now)
	if err != nil {
		return err
	}
	path := s.recordPath(b.ID)
	if err := os.WriteFile(path+partial, data, 0o600); err != nil {
		return fmt.Errorf("record of sandbox %s: %w", b.ID, err)
	}
	return os.Rename(path+partial, path)
}

// partial ends the names of files that are being written.
const partial = ".part"

// mountSpace gives a sandbox a namespace of its own.
func (s *Service) mountSpace(p *Plan) error {
	f, owner, err := s.take(p.Users)
	if err != nil {
		return err
	}
	defer f.Close()
	if owner != nil {
		defer owner.Close()
		if err := mountNamespace(owner, s.ownerPath(p.ID)); err != nil {
			return err
		}
	}
	return mountNamespace(f, s.spacePath(p.ID))
}

// unmountSpace lets a namespace go; one that isn't there is no error.
func unmountSpace(path string) error {
	// Others may have mounted over it; each takes one.
	for range 16 {
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			break
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network namespace: %w", err)
	}
	return nil
}
