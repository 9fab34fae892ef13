package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/internal/dbus"
)

// ErrNoSystemd says that systemd is not there to make groups.
var ErrNoSystemd = errors.New("systemd is not running on this host; use the cgroupfs driver")

// Names of systemd on D-Bus.
const (
	systemdName     = "org.freedesktop.systemd1"
	systemdPath     = "/org/freedesktop/systemd1"
	systemdManager  = "org.freedesktop.systemd1.Manager"
	errNoUnit       = "org.freedesktop.systemd1.NoSuchUnit"
	errUnitExists   = "org.freedesktop.systemd1.UnitExists"
	unitWait        = 30 * time.Second // for a job of systemd's
	existsTries     = 20               // 50 ms apart, for an old unit of the name to go
	systemdRunning  = "/run/systemd/system"
	systemdSocket   = "/run/systemd/private"
	systemBusSocket = "/run/dbus/system_bus_socket"
	versionSets     = 244 // AllowedCPUs, AllowedMemoryNodes
	versionPeriod   = 242 // CPUQuotaPeriodUSec
)

// systemd is a conversation with the service manager.
type systemd struct {
	c   *dbus.Conn
	bus bool
}

// dialSystemd asks for the manager at its own socket, which only root may use,
// and then on the system bus.
func dialSystemd(ctx context.Context) (*systemd, error) {
	if _, err := os.Stat(systemdRunning); err != nil {
		return nil, fmt.Errorf("%w (no %s)", ErrNoSystemd, systemdRunning)
	}
	c, err := dbus.Dial(ctx, systemdSocket, false)
	if err == nil {
		return &systemd{c: c}, nil
	}
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) && !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("systemd: %w", err)
	}
	c, busErr := dbus.Dial(ctx, systemBusSocket, true)
	if busErr != nil {
		return nil, fmt.Errorf("systemd: %w", errors.Join(err, busErr))
	}
	s := &systemd{c: c, bus: true}
	_, err = c.Call(ctx, dbus.Call{Destination: "org.freedesktop.DBus", Path: "/org/freedesktop/DBus", Interface: "org.freedesktop.DBus",
		Member: "AddMatch", Args: []any{"type='signal',interface='" + systemdManager + "',member='JobRemoved'"}})
	if err == nil {
		_, err = s.call(ctx, "Subscribe")
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("systemd: %w", err)
	}
	return s, nil
}

func (s *systemd) close() { s.c.Close() }

func (s *systemd) call(ctx context.Context, method string, args ...any) ([]any, error) {
	return s.c.Call(ctx, dbus.Call{Destination: systemdName, Path: systemdPath, Interface: systemdManager, Member: method, Args: args})
}

// property reads a property of the manager's that is text.
func (s *systemd) property(ctx context.Context, name string) (string, error) {
	out, err := s.c.Call(ctx, dbus.Call{Destination: systemdName, Path: systemdPath, Interface: "org.freedesktop.DBus.Properties",
		Member: "Get", Args: []any{systemdManager, name}})
	if err != nil || len(out) == 0 {
		return "", err
	}
	text, _ := out[0].(string)
	return text, nil
}

// version is systemd's, such as 252; zero if it tells none.
func (s *systemd) version(ctx context.Context) (int, error) {
	text, err := s.property(ctx, "Version")
	digits := strings.FieldsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0, err
	}
	n, _ := strconv.Atoi(digits[0])
	return n, err
}

// job calls a method that starts a job and waits for the job's end.
func (s *systemd) job(ctx context.Context, method string, args ...any) error {
	out, err := s.call(ctx, method, args...)
	if err != nil {
		return err
	}
	if len(out) == 0 {
		return fmt.Errorf("%s: systemd tells no job", method)
	}
	// JobRemoved(u id, o job, s unit, s result)
	end, err := s.c.Await(ctx, func(sig dbus.Signal) bool {
		return sig.Member == "JobRemoved" && len(sig.Args) == 4 && sig.Args[1] == out[0]
	})
	if err != nil {
		return fmt.Errorf("%s: its job does not end: %w", method, err)
	}
	if end.Args[3] != "done" {
		return fmt.Errorf("%s: its job ended as %q", method, end.Args[3])
	}
	return nil
}

// Scope is a group that systemd is to make.
type Scope struct {
	// Group is where it will be.
	Group   *Group
	host    *Host
	unit    Unit
	version int
	started bool
}

// Started tells whether systemd has made the scope for Start. If it has not, a unit
// of that name is somebody else's.
func (sc *Scope) Started() bool { return sc.started }

// Scope finds out where systemd would put a scope, by a cgroupsPath of the form
// slice:prefix:name (empty: of id). It fails with ErrNoSystemd where there is none.
func (h *Host) Scope(ctx context.Context, cgroupsPath, id string) (*Scope, error) {
	u, err := ParseUnit(cgroupsPath, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, unitWait)
	defer cancel()
	s, err := dialSystemd(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	version, err := s.version(ctx)
	if err != nil {
		return nil, fmt.Errorf("version of systemd: %w", err)
	}
	own, err := s.property(ctx, "ControlGroup")
	if err != nil {
		return nil, fmt.Errorf("control group of systemd: %w", err)
	}
	g := h.at(u.path(own))
	g.Unit = u.Name
	return &Scope{Group: g, host: h, unit: u, version: version}, nil
}

// Start has systemd make the scope with its limits and put a process into it,
// and completes it: hierarchies that systemd doesn't manage, limits that it has no
// name for. The process should do nothing until Start has returned.
func (sc *Scope) Start(ctx context.Context, pid int, r *specs.LinuxResources) (warnings []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, unitWait)
	defer cancel()
	s, err := dialSystemd(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	p := properties{unified: sc.Group.Unified, version: sc.version}
	list := append(sc.identity(pid), p.accounting()...)
	list = append(append(list, p.limits(r)...), p.devices(r.Devices)...)
	if err := s.startScope(ctx, sc.unit.Name, list); err != nil {
		return nil, fmt.Errorf("unit %s: %w", sc.unit.Name, err)
	}
	sc.started = true
	if err := sc.check(pid); err != nil {
		return nil, err
	}
	made, err := sc.host.Create(sc.Group.Path)
	if err != nil {
		return nil, err
	}
	made.Unit = sc.unit.Name
	*sc.Group = *made
	warnings, err = sc.Group.applyFiles(r)
	if err != nil {
		return warnings, err
	}
	more, err := sc.Group.ApplyDevices(r.Devices)
	return append(warnings, more...), err
}

func (sc *Scope) identity(pid int) []dbus.Property {
	return []dbus.Property{
		{Name: "Description", Value: "Orlop container " + strings.TrimSuffix(sc.unit.Name, ".scope")},
		{Name: "Slice", Value: sc.unit.Slice},
		{Name: "PIDs", Value: []uint32{uint32(pid)}},
		{Name: "Delegate", Value: true},
		{Name: "DefaultDependencies", Value: false},
		// A scope whose processes were killed is not kept as a failed one.
		{Name: "CollectMode", Value: "inactive-or-failed"},
	}
}

// startScope waits for an old scope of the same name to go.
func (s *systemd) startScope(ctx context.Context, name string, list []dbus.Property) error {
	for i := 0; ; i++ {
		err := s.job(ctx, "StartTransientUnit", name, "fail", list, dbus.NoUnits{})
		if i == existsTries || !dbus.IsError(err, errUnitExists) {
			return err
		}
		s.call(ctx, "ResetFailedUnit", name) // one that failed is kept until it is reset
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// check makes sure that the process is where it was to be put.
func (sc *Scope) check(pid int) error {
	paths, err := ownPaths(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return err
	}
	is, ok := paths["name=systemd"]
	if !ok {
		is = paths[""]
	}
	if is != sc.Group.Path {
		return fmt.Errorf("unit %s: systemd has put the process into %s instead of %s", sc.unit.Name, is, sc.Group.Path)
	}
	return nil
}

// setUnit changes the limits that systemd keeps for the unit, so that it doesn't
// put back the old ones when it is reloaded.
func (g *Group) setUnit(r *specs.LinuxResources) error {
	ctx, cancel := context.WithTimeout(context.Background(), unitWait)
	defer cancel()
	s, err := dialSystemd(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	version, err := s.version(ctx)
	if err != nil {
		return fmt.Errorf("version of systemd: %w", err)
	}
	p := properties{unified: g.Unified, version: version}
	list := p.limits(r)
	if len(r.Devices) > 0 {
		list = append(list, p.devices(r.Devices)...)
	}
	if len(list) == 0 {
		return nil
	}
	if !g.Unified && !g.Frozen() && g.setFrozen(true) == nil {
		// On version 1 systemd denies all devices for a moment.
		defer g.setFrozen(false)
	}
	if _, err := s.call(ctx, "SetUnitProperties", g.Unit, true, list); err != nil {
		return fmt.Errorf("unit %s: %w", g.Unit, err)
	}
	return nil
}

// stopUnit lets systemd forget the unit.
func (g *Group) stopUnit() error {
	ctx, cancel := context.WithTimeout(context.Background(), unitWait)
	defer cancel()
	s, err := dialSystemd(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	err = s.job(ctx, "StopUnit", g.Unit, "replace")
	if dbus.IsError(err, errNoUnit) {
		return nil
	}
	return err
}
