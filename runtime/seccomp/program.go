package seccomp

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data; arguments are little-endian on every
// architecture in the tables.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// Instruction codes.
const (
	load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	ret    = unix.BPF_RET | unix.BPF_K
	and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	jump   = unix.BPF_JMP | unix.BPF_JA
	ifEQ   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	ifGT   = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	ifGE   = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	ifSet  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	maxHop = 255
)

// program puts the sections of all architectures behind each other.
func program(archs []arch, rules map[string][]rule, def uint32) []Instruction {
	out := []Instruction{{Code: load, K: offArch}}
	for _, a := range archs {
		body := section(a, rules, def)
		out = append(out, Instruction{Code: ifEQ, K: a.audit, True: 1},
			Instruction{Code: jump, K: uint32(len(body))})
		out = append(out, body...)
	}
	return append(out, Instruction{Code: ret, K: retKillProcess})
}

// section decides on calls of one architecture.
func section(a arch, rules map[string][]rule, def uint32) []Instruction {
	byNumber, newest := map[uint32][]rule{}, uint32(0)
	for name, list := range rules {
		if nr, ok := find(a.table, name); ok {
			byNumber[nr] = append(byNumber[nr], list...)
			newest = max(newest, nr)
		}
		if nr, ok := find(x32Numbers, name); ok && a.x32 {
			byNumber[nr] = append(byNumber[nr], list...)
		}
	}
	body := tree(ranges(byNumber, newest, def))
	out := []Instruction{{Code: load, K: offNumber}}
	switch {
	case a.x32:
		out = append(out, Instruction{Code: and, K: ^uint32(x32Bit)})
	case a.hasX32: // x32 calls are another architecture's
		out = append(out, Instruction{Code: ifSet, K: x32Bit, False: 1},
			Instruction{Code: ret, K: retKillProcess})
	}
	return append(out, body...)
}

// span is a range of numbers from lo to the next span's lo with one outcome.
type span struct {
	lo   uint32
	code []Instruction
}

// ranges covers all numbers with spans.
func ranges(byNumber map[uint32][]rule, newest, def uint32) []span {
	numbers := make([]uint32, 0, len(byNumber))
	for nr := range byNumber {
		numbers = append(numbers, nr)
	}
	slices.Sort(numbers)
	refuse, unknown := []Instruction{{Code: ret, K: def}}, []Instruction{{Code: ret, K: def}}
	if def != retAllow && def != retLog && def&0xffff0000 != retTrace {
		unknown[0].K = retErrno | uint32(unix.ENOSYS)
	}
	spans, next := []span{}, uint32(0)
	add := func(lo uint32, code []Instruction) {
		if n := len(spans); n == 0 || !slices.Equal(spans[n-1].code, code) {
			spans = append(spans, span{lo, code})
		}
	}
	gap := func() {
		if next > newest && len(numbers) > 0 {
			add(next, unknown)
		} else {
			add(next, refuse)
		}
	}
	for _, nr := range numbers {
		if nr > next {
			gap()
		}
		add(nr, outcome(byNumber[nr], def))
		next = nr + 1
	}
	gap()
	return spans
}

// outcome is the code for one system call.
func outcome(rules []rule, def uint32) []Instruction {
	var out []Instruction
	last := def
	for _, r := range rules {
		if len(r.conds) == 0 {
			last = r.ret
			break
		}
	}
	for _, r := range rules {
		if len(r.conds) > 0 {
			out = append(out, chain(r)...)
		}
	}
	return append(out, Instruction{Code: ret, K: last})
}

// chain returns a rule's action if all its conditions hold, and else falls
// through to what follows.
func chain(r rule) []Instruction {
	out := []Instruction{{Code: ret, K: r.ret}}
	for i := len(r.conds) - 1; i >= 0; i-- {
		out = append(condition(r.conds[i], uint8(len(out))), out...)
	}
	return out
}

// operators says how each is made of a basic comparison and its negation.
var operators = map[specs.LinuxSeccompOperator]struct {
	basic  uint16
	negate bool
}{
	specs.OpEqualTo: {ifEQ, false}, specs.OpMaskedEqual: {ifEQ, false}, specs.OpNotEqual: {ifEQ, true},
	specs.OpGreaterThan: {ifGT, false}, specs.OpLessEqual: {ifGT, true},
	specs.OpGreaterEqual: {ifGE, false}, specs.OpLessThan: {ifGE, true},
}

// condition falls through if it holds, and else skips also the rest
// instructions behind it.
func condition(a specs.LinuxSeccompArg, rest uint8) []Instruction {
	off := uint32(offArgs + 8*a.Index)
	want, mask := a.Value, ^uint64(0)
	if a.Op == specs.OpMaskedEqual {
		mask, want = a.Value, a.ValueTwo
	}
	op := operators[a.Op]
	yes, no := uint8(0), rest
	if op.negate {
		yes, no = rest, 0
	}
	// Built from the end: the low half decides where the high halves are equal.
	out := []Instruction{{Code: op.basic, K: uint32(want), True: yes, False: no}}
	out = append(masked(off, uint32(mask)), out...)
	n := uint8(len(out))
	hi := []Instruction{{Code: ifEQ, K: uint32(want >> 32), False: no + n}}
	if op.basic != ifEQ { // a greater high half is enough
		hi = []Instruction{{Code: ifGT, K: uint32(want >> 32), True: yes + n + 1},
			{Code: ifEQ, K: uint32(want >> 32), False: no + n}}
	}
	return append(append(masked(off+4, uint32(mask>>32)), hi...), out...)
}

func masked(off, mask uint32) []Instruction {
	out := []Instruction{{Code: load, K: off}}
	if mask != ^uint32(0) {
		out = append(out, Instruction{Code: and, K: mask})
	}
	return out
}

// tree searches the spans by halves.
func tree(spans []span) []Instruction {
	if len(spans) == 1 {
		return spans[0].code
	}
	half := len(spans) / 2
	left, right := tree(spans[:half]), tree(spans[half:])
	out := []Instruction{{Code: ifGE, K: spans[half].lo, True: uint8(min(len(left), maxHop))}}
	if len(left) > maxHop {
		out = []Instruction{{Code: ifGE, K: spans[half].lo, False: 1}, {Code: jump, K: uint32(len(left))}}
	}
	return append(append(out, left...), right...)
}
