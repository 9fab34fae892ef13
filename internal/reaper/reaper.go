// Package reaper is the program that a container asked for with --init runs first:
// it runs the container's command, passes signals on to it, collects orphans, and
// ends with the command's exit code, or 128 and the number of the signal that
// killed it.
//
//	init [--] command args…
//
// The command is looked for in PATH if it has no slash. It gets a process group of
// its own, which is the terminal's if there is one. What can't be found gives exit
// code 127, what can't be run 126, and a word on standard error.
//
// The program is a few hundred bytes of assembly in this package. They are never run
// here: [Program] puts a header before them that makes them an executable of one
// read-only segment, without a writable page but its stack.
//
// Nothing is kept; all functions are safe for concurrent use.
package reaper

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"unsafe"
)

func address() uintptr

//lint:ignore U1000 it is the assembly's name
func program()

// mark ends the program in the assembly.
var mark = []byte("pid-one.")

const (
	// maxCode bounds the assembly, in bytes.
	maxCode = 4096
	// base is where the file is mapped, for both architectures above what the
	// kernel keeps free.
	base      = 0x400000
	alignment = 0x10000
)

// machines are the numbers of architectures (ELF).
var machines = map[string]uint16{"amd64": 62, "arm64": 183}

// header is an ELF file's, with the headers of two segments: the file itself, to
// read and execute, and the stack, which is not executable.
type header struct {
	Ident                                      [16]byte
	Type, Machine                              uint16
	Version                                    uint32
	Entry, PhOff, ShOff                        uint64
	Flags                                      uint32
	EhSize, PhEntSize, PhNum, ShEntSize, ShNum uint16
	ShStrNdx                                   uint16
	Segments                                   [2]segment
}

type segment struct {
	Type, Flags                                uint32
	Offset, VAddr, PAddr, FileSz, MemSz, Align uint64
}

// Program is the executable for the architecture that this runs on.
func Program() []byte {
	return build(code(), runtime.GOARCH)
}

// code is the assembly's machine code, up to its mark.
func code() []byte {
	all := unsafe.Slice((*byte)(pointer(address())), maxCode)
	return bytes.Clone(all[:bytes.Index(all, mark)])
}

// pointer is for addresses of code, which never moves.
func pointer(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

func build(code []byte, arch string) []byte {
	h := header{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: 2, Machine: machines[arch], Version: 1, PhNum: 2,
	}
	h.PhOff = uint64(unsafe.Offsetof(h.Segments))
	h.EhSize, h.PhEntSize = uint16(h.PhOff), uint16(unsafe.Sizeof(h.Segments[0]))
	size := uint64(binary.Size(h))
	h.Entry = base + size
	whole := size + uint64(len(code))
	h.Segments[0] = segment{Type: 1, Flags: 5, VAddr: base, PAddr: base, FileSz: whole, MemSz: whole, Align: alignment}
	h.Segments[1] = segment{Type: 0x6474e551, Flags: 6, Align: 16}
	var out bytes.Buffer
	binary.Write(&out, binary.LittleEndian, h)
	out.Write(code)
	return out.Bytes()
}
