package seccomp

import (
	"fmt"
	"sort"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// number is a row of the generated tables, which are sorted by name.
type number struct {
	name string
	nr   uint32
}

// arch is one calling convention that a kernel may accept.
type arch struct {
	audit uint32 // AUDIT_ARCH_*
	table []number
	// x32 says that calls with x32Bit set are the x32 convention, which shares
	// the numbers below 512; without it they are refused.
	hasX32, x32 bool
}

const (
	auditX86_64  = 0xc000003e
	auditX86     = 0x40000003
	auditAARCH64 = 0xc00000b7
	auditARM     = 0x40000028

	x32Bit = 0x40000000
)

// x32Numbers are the calls that x32 numbers for itself.
var x32Numbers = []number{
	{"execve", 520}, {"execveat", 545}, {"get_robust_list", 531}, {"getsockopt", 542},
	{"io_setup", 543}, {"io_submit", 544}, {"ioctl", 514}, {"kexec_load", 528},
	{"move_pages", 533}, {"mq_notify", 527}, {"preadv", 534}, {"preadv2", 546},
	{"process_vm_readv", 539}, {"process_vm_writev", 540}, {"ptrace", 521}, {"pwritev", 535},
	{"pwritev2", 547}, {"readv", 515}, {"recvfrom", 517}, {"recvmmsg", 537},
	{"recvmsg", 519}, {"rt_sigaction", 512}, {"rt_sigpending", 522}, {"rt_sigqueueinfo", 524},
	{"rt_sigreturn", 513}, {"rt_sigtimedwait", 523}, {"rt_tgsigqueueinfo", 536}, {"sendmmsg", 538},
	{"sendmsg", 518}, {"set_robust_list", 530}, {"setsockopt", 541}, {"sigaltstack", 525},
	{"timer_create", 526}, {"vmsplice", 532}, {"waitid", 529}, {"writev", 516},
}

func find(table []number, name string) (uint32, bool) {
	i := sort.Search(len(table), func(i int) bool { return table[i].name >= name })
	if i < len(table) && table[i].name == name {
		return table[i].nr, true
	}
	return 0, false
}

// Known reports whether a system call of this name exists on any architecture
// that Orlop runs on.
func Known(name string) bool {
	for _, t := range [][]number{numbersX86_64, numbersX86, numbersARM64, numbersARM} {
		if _, ok := find(t, name); ok {
			return true
		}
	}
	return false
}

// families lists, by GOARCH, which conventions the kernel may meet, native first.
var families = map[string][]specs.Arch{
	"amd64": {specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
	"arm64": {specs.ArchAARCH64, specs.ArchARM},
}

// architectures are the names of the specification.
var architectures = map[specs.Arch]bool{
	specs.ArchX86: true, specs.ArchX86_64: true, specs.ArchX32: true, specs.ArchARM: true,
	specs.ArchAARCH64: true, specs.ArchMIPS: true, specs.ArchMIPS64: true, specs.ArchMIPS64N32: true,
	specs.ArchMIPSEL: true, specs.ArchMIPSEL64: true, specs.ArchMIPSEL64N32: true, specs.ArchPPC: true,
	specs.ArchPPC64: true, specs.ArchPPC64LE: true, specs.ArchS390: true, specs.ArchS390X: true,
	specs.ArchPARISC: true, specs.ArchPARISC64: true, specs.ArchRISCV64: true,
	specs.ArchLOONGARCH64: true, specs.ArchM68K: true, specs.ArchSH: true, specs.ArchSHEB: true,
}

// selectArchs picks the conventions that both the configuration and the machine
// know; the native one is always among them.
func selectArchs(want []specs.Arch, goarch string) ([]arch, error) {
	asked := map[specs.Arch]bool{}
	for _, a := range want {
		if !architectures[a] {
			return nil, fmt.Errorf("%w: architecture %q", ErrInvalid, a)
		}
		asked[a] = true
	}
	family := families[goarch]
	if family == nil {
		return nil, fmt.Errorf("%w: no system call table for %s", ErrInvalid, goarch)
	}
	asked[family[0]] = true
	var out []arch
	for _, a := range family {
		if !asked[a] {
			continue
		}
		switch a {
		case specs.ArchX86_64:
			out = append(out, arch{audit: auditX86_64, table: numbersX86_64, hasX32: true, x32: asked[specs.ArchX32]})
		case specs.ArchX86:
			out = append(out, arch{audit: auditX86, table: numbersX86})
		case specs.ArchAARCH64:
			out = append(out, arch{audit: auditAARCH64, table: numbersARM64})
		case specs.ArchARM:
			out = append(out, arch{audit: auditARM, table: numbersARM})
		}
	}
	return out, nil
}
