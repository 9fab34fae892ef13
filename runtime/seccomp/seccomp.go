// Package seccomp compiles the seccomp section of an OCI configuration into a
// program for the kernel.
//
// System call numbers are grouped into ranges with the same outcome, and a
// binary search over the ranges finds it; so a default profile takes a few
// hundred instructions of which fewer than a dozen run per call. A Profile is parsed
// and compiled once for all containers that use it.
//
// Where rules for one system call compete, those with arguments are tried in the
// order of the configuration, then the first without. A call that is newer than
// every call the profile names gets ENOSYS instead of a refusal, so that programs
// fall back to an older one.
//
// All functions may be called concurrently.
package seccomp

//go:generate go run ./gen

import (
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ErrInvalid is returned for a configuration that means nothing.
var ErrInvalid = errors.New("invalid seccomp configuration")

// Instruction is one instruction of a classic BPF program (struct sock_filter).
type Instruction struct {
	// Code is the operation.
	Code uint16
	// True and False are jump distances.
	True, False uint8
	// K is the constant.
	K uint32
}

// Program is a compiled configuration.
type Program struct {
	// Instructions is what the kernel runs.
	Instructions []Instruction
	// Flags are those of seccomp(2), with SECCOMP_FILTER_FLAG_NEW_LISTENER set
	// if an action is SCMP_ACT_NOTIFY.
	Flags uint
}

// Notifies reports whether loading the program yields a listener.
func (p *Program) Notifies() bool { return p.Flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 }

func compile(c *specs.LinuxSeccomp, goarch string) (*Program, error) {
	p := &Program{}
	for _, f := range c.Flags {
		v, ok := flags[f]
		if !ok {
			return nil, fmt.Errorf("%w: flag %q", ErrInvalid, f)
		}
		p.Flags |= v
	}
	archs, err := selectArchs(c.Architectures, goarch)
	if err != nil {
		return nil, err
	}
	def, err := action(c.DefaultAction, c.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	if c.DefaultAction == specs.ActNotify {
		return nil, fmt.Errorf("%w: SCMP_ACT_NOTIFY as the default action would also catch the runtime", ErrInvalid)
	}
	rules, notify, err := collect(c, def)
	if err != nil {
		return nil, err
	}
	if notify {
		p.Flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	} else {
		p.Flags &^= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	p.Instructions = program(archs, rules, def)
	if len(p.Instructions) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("%w: %d instructions, the kernel takes %d", ErrInvalid, len(p.Instructions), unix.BPF_MAXINSNS)
	}
	return p, nil
}

var flags = map[specs.LinuxSeccompFlag]uint{
	"SECCOMP_FILTER_FLAG_TSYNC":            0, // the process has one thread
	specs.LinuxSeccompFlagLog:              unix.SECCOMP_FILTER_FLAG_LOG,
	specs.LinuxSeccompFlagSpecAllow:        unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
	specs.LinuxSeccompFlagWaitKillableRecv: unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}

// Values of SECCOMP_RET_*.
const (
	retKillProcess = 0x80000000
	retKillThread  = 0x00000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retNotify      = 0x7fc00000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000
)

// maxErrno is the largest errno the kernel passes on.
const maxErrno = 4095

func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		if a != specs.ActErrno && a != specs.ActTrace {
			return 0, fmt.Errorf("%w: errnoRet with action %s", ErrInvalid, a)
		}
		if *errno > maxErrno {
			return 0, fmt.Errorf("%w: errnoRet %d", ErrInvalid, *errno)
		}
		data = uint32(*errno)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActErrno:
		return retErrno | data, nil
	case specs.ActTrace:
		return retTrace | data, nil
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActNotify:
		return retNotify, nil
	}
	return 0, fmt.Errorf("%w: action %q", ErrInvalid, a)
}

// rule is what a system call name leads to.
type rule struct {
	ret   uint32
	conds []specs.LinuxSeccompArg // all must hold
}

// collect groups the rules by name, and checks them.
func collect(c *specs.LinuxSeccomp, def uint32) (map[string][]rule, bool, error) {
	rules, notify := map[string][]rule{}, false
	for _, s := range c.Syscalls {
		ret, err := action(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, false, err
		}
		alternatives, err := splitArgs(s.Args)
		if err != nil {
			return nil, false, err
		}
		notify = notify || ret == retNotify
		for _, name := range s.Names {
			if name == "write" && ret == retNotify {
				return nil, false, fmt.Errorf("%w: SCMP_ACT_NOTIFY for write", ErrInvalid)
			}
			for _, conds := range alternatives {
				rules[name] = append(rules[name], rule{ret, conds})
			}
		}
	}
	return rules, notify, nil
}

// splitArgs turns conditions that name one argument twice into alternatives, as
// libseccomp makes its users do; distinct arguments must hold together.
func splitArgs(args []specs.LinuxSeccompArg) ([][]specs.LinuxSeccompArg, error) {
	seen, twice := [6]bool{}, false
	for _, a := range args {
		if a.Index > 5 {
			return nil, fmt.Errorf("%w: argument %d", ErrInvalid, a.Index)
		}
		if _, ok := operators[a.Op]; !ok {
			return nil, fmt.Errorf("%w: operator %q", ErrInvalid, a.Op)
		}
		twice = twice || seen[a.Index]
		seen[a.Index] = true
	}
	if !twice {
		return [][]specs.LinuxSeccompArg{args}, nil
	}
	var out [][]specs.LinuxSeccompArg
	for _, a := range args {
		out = append(out, []specs.LinuxSeccompArg{a})
	}
	return out, nil
}
