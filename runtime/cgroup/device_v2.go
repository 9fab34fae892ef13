package cgroup

import (
	"fmt"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// bpfInsn is one instruction of an eBPF program (struct bpf_insn).
type bpfInsn struct {
	code   uint8
	regs   uint8 // destination in the low half, source in the high half
	offset int16
	imm    int32
}

// Instruction codes and registers used below.
const (
	loadWord  = unix.BPF_LDX | unix.BPF_W | unix.BPF_MEM
	andImm    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	shiftImm  = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
	moveReg   = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X
	moveImm   = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_K
	unlessImm = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	unlessReg = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_X
	ifImm     = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	leave     = unix.BPF_JMP | unix.BPF_EXIT

	regResult, regScratch, regType, regAccess, regMajor, regMinor = 0, 1, 2, 3, 4, 5
)

// deviceProgram tries the rules from the last to the first; the first that
// matches decides.
func deviceProgram(rules []specs.LinuxDeviceCgroup, open bool) []bpfInsn {
	// struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }: the low half
	// of access_type is the device type, the high half the access.
	context := func(to uint8, offset int16) bpfInsn { return bpfInsn{loadWord, to | regScratch<<4, offset, 0} }
	out := []bpfInsn{
		context(regType, 0), {andImm, regType, 0, 0xffff},
		context(regAccess, 0), {shiftImm, regAccess, 0, 16},
		context(regMajor, 4), context(regMinor, 8),
	}
	for i := len(rules) - 1; i >= 0; i-- {
		out = append(out, deviceRule(rules[i])...)
	}
	return append(out, bpfInsn{moveImm, regResult, 0, verdict(open)}, bpfInsn{code: leave})
}

// deviceRule ends the program if the rule matches, and else falls through.
func deviceRule(d specs.LinuxDeviceCgroup) []bpfInsn {
	var body []bpfInsn
	switch d.Type {
	case "b":
		body = append(body, bpfInsn{unlessImm, regType, 0, unix.BPF_DEVCG_DEV_BLOCK})
	case "c":
		body = append(body, bpfInsn{unlessImm, regType, 0, unix.BPF_DEVCG_DEV_CHAR})
	}
	if bits := accessBits(d.Access); bits != 7 {
		body = append(body, bpfInsn{moveReg, regScratch | regAccess<<4, 0, 0}, bpfInsn{andImm, regScratch, 0, bits})
		if d.Allow { // all that is wanted must be allowed,
			body = append(body, bpfInsn{unlessReg, regScratch | regAccess<<4, 0, 0})
		} else { // any of it may be denied
			body = append(body, bpfInsn{ifImm, regScratch, 0, 0})
		}
	}
	if d.Major != nil && *d.Major >= 0 {
		body = append(body, bpfInsn{unlessImm, regMajor, 0, int32(*d.Major)})
	}
	if d.Minor != nil && *d.Minor >= 0 {
		body = append(body, bpfInsn{unlessImm, regMinor, 0, int32(*d.Minor)})
	}
	body = append(body, bpfInsn{moveImm, regResult, 0, verdict(d.Allow)}, bpfInsn{code: leave})
	for i := range body { // conditions jump behind the rule
		if c := body[i].code; c == unlessImm || c == unlessReg || c == ifImm {
			body[i].offset = int16(len(body) - i - 1)
		}
	}
	return body
}

func verdict(allow bool) int32 {
	if allow {
		return 1
	}
	return 0
}

func accessBits(s string) int32 {
	if s == "" {
		return 7
	}
	bits := int32(0)
	for _, c := range s {
		bits |= map[rune]int32{'m': unix.BPF_DEVCG_ACC_MKNOD, 'r': unix.BPF_DEVCG_ACC_READ, 'w': unix.BPF_DEVCG_ACC_WRITE}[c]
	}
	return bits
}

// deviceProgramName marks our programs among those that others attach (systemd).
const deviceProgramName = "orlop_device"

// maxPrograms is BPF_CGROUP_MAX_PROGS: the kernel attaches no more to a group.
const maxPrograms = 64

// devicesV2 attaches a program that allows the listed devices, and then detaches
// those of ours that were there before. In between all of them must allow, so the
// group is never open.
func (g *Group) devicesV2(rules []specs.LinuxDeviceCgroup, open bool) (warnings []string, err error) {
	prog, err := loadDeviceProgram(deviceProgram(rules, open))
	if err != nil {
		return []string{fmt.Sprintf("device rules: %v", err)}, nil
	}
	defer unix.Close(prog)
	dir, err := unix.Open(g.V2, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	old := ourPrograms(dir)
	defer func() {
		for _, fd := range old {
			unix.Close(fd)
		}
	}()
	if err := attach(unix.BPF_PROG_ATTACH, dir, prog); err != nil {
		return nil, fmt.Errorf("device rules: %w", err)
	}
	for _, fd := range old {
		if err := attach(unix.BPF_PROG_DETACH, dir, fd); err != nil && err != unix.ENOENT {
			return nil, fmt.Errorf("former device rules: %w", err)
		}
	}
	return nil, nil
}

// attach attaches a program to a group beside others, or detaches it.
func attach(cmd uintptr, dir, prog int) error {
	attr := struct{ target, prog, kind, flags uint32 }{uint32(dir), uint32(prog), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI}
	if cmd == unix.BPF_PROG_DETACH {
		attr.flags = 0
	}
	_, err := bpf(cmd, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return err
}

// ourPrograms opens the device programs of ours that are attached to a group.
func ourPrograms(dir int) []int {
	var ids [maxPrograms]uint32
	query := struct {
		target, kind, query, flags uint32
		ids                        unsafe.Pointer
		count, _                   uint32
	}{target: uint32(dir), kind: unix.BPF_CGROUP_DEVICE, ids: unsafe.Pointer(&ids[0]), count: maxPrograms}
	if _, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&query), unsafe.Sizeof(query)); err != nil {
		return nil
	}
	var out []int
	for _, id := range ids[:min(query.count, maxPrograms)] {
		get := struct{ id, next, flags uint32 }{id: id}
		fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&get), unsafe.Sizeof(get))
		if err != nil {
			continue
		}
		if programName(fd) == deviceProgramName {
			out = append(out, fd)
		} else {
			unix.Close(fd)
		}
	}
	return out
}

// programName asks the kernel for a program's name.
func programName(fd int) string {
	// The head of struct bpf_prog_info, up to the name.
	var info struct {
		kind, id          uint32
		tag               [8]byte
		jited, xlated     uint32
		jitedAt, xlatedAt uint64
		loaded            uint64
		user, maps        uint32
		mapsAt            uint64
		name              [unix.BPF_OBJ_NAME_LEN]byte
	}
	attr := struct {
		fd, size uint32
		info     unsafe.Pointer
	}{uint32(fd), uint32(unsafe.Sizeof(info)), unsafe.Pointer(&info)}
	if _, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.name[:])
}

func loadDeviceProgram(code []bpfInsn) (int, error) {
	license := []byte("Apache-2.0\x00")
	load := struct {
		kind, count  uint32
		code         unsafe.Pointer
		license      unsafe.Pointer
		level, size  uint32
		log          uint64
		kernel, flag uint32
		name         [unix.BPF_OBJ_NAME_LEN]byte
	}{kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code)), code: unsafe.Pointer(&code[0]), license: unsafe.Pointer(&license[0])}
	copy(load.name[:], deviceProgramName)
	return bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&load), unsafe.Sizeof(load))
}

func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}
