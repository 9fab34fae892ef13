package table

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Operations above the system calls; walk_*.s knows these numbers.
const (
	opReturn = 0x10000 + iota
	opTest
	opStore
	opSpin
	opFork
)

// op is one operation, laid out for the assembly.
type op struct {
	nr    uint64
	args  [6]uint64
	deref uint64 // bit i: argument i is the address of the value
	res   uint64 // result, or negative errno
	tol   uint64 // tolerated errnos, a byte each; all ones: every error
	next  uint64
	alt   uint64 // where to go on after a tolerated error
}

// header is what the walker tells the parent.
type header struct {
	failed uint64 // address of the operation that failed
	errno  uint64
	pid    uint64 // low 32 bits: process id of the child, set by the kernel
}

const (
	opSize = uint64(unsafe.Sizeof(op{}))
	// arenaSize is reserved per table; pages cost nothing until they are used.
	// It holds 5000 operations and all strings but the arguments' and the
	// environment's, which New adds.
	arenaSize = 1 << 20
	opsSize   = 5000 * int(opSize)
	maxPooled = 16
)

// Ref names an operation of a table; zero names none.
type Ref int

// Result is an argument that stands for the result of an earlier operation.
type Result Ref

// Table is a list of operations with the memory they refer to.
type Table struct {
	hdr      *header
	mem      []byte
	base     uintptr
	used     int // bytes of the data half in use, from opsSize on
	n        int // operations in use
	names    []string
	open     []pending // jumps that want the next operation
	err      error
	ownPIDNS int
}

type pending struct {
	ref Ref
	alt bool
}

// arenas keeps mapped arenas for reuse: their pages are there already.
var arenas struct {
	mu   sync.Mutex
	free [][]byte
}

// ErrTooLarge says that a table does not fit its arena.
var ErrTooLarge = errors.New("too many operations or too much data for one process")

// New makes an empty table with room for extra bytes beside the usual. ownPIDNS
// is an open file of the caller's own pid namespace, needed by Clone.PIDNamespace.
func New(extra, ownPIDNS int) (*Table, error) {
	t := &Table{ownPIDNS: ownPIDNS}
	arenas.mu.Lock()
	if n := len(arenas.free); n > 0 && extra == 0 {
		t.mem = arenas.free[n-1]
		arenas.free = arenas.free[:n-1]
	}
	arenas.mu.Unlock()
	if t.mem == nil {
		mem, err := unix.Mmap(-1, 0, arenaSize+extra, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		if err != nil {
			return nil, fmt.Errorf("memory for a process table: %w", err)
		}
		t.mem = mem
	}
	t.base = uintptr(unsafe.Pointer(&t.mem[0]))
	t.used = opsSize
	at := t.Alloc(int(unsafe.Sizeof(header{})))
	t.hdr = (*header)(unsafe.Pointer(t.Word(uint64(at))))
	t.n = 1 // operation 0 is none
	t.names = append(make([]string, 0, 256), "")
	return t, nil
}

// Free gives the memory back.
func (t *Table) Free() {
	if t.mem == nil {
		return
	}
	clear(t.mem[:t.n*int(opSize)])
	clear(t.mem[opsSize:t.used])
	arenas.mu.Lock()
	keep := len(t.mem) == arenaSize && len(arenas.free) < maxPooled
	if keep {
		arenas.free = append(arenas.free, t.mem)
	}
	arenas.mu.Unlock()
	if !keep {
		unix.Munmap(t.mem)
	}
	t.mem, t.hdr = nil, nil
}

// Forget leaves the memory to the child, which walks it without us.
func (t *Table) Forget() {
	if t.mem != nil {
		unix.Munmap(t.mem)
		t.mem, t.hdr = nil, nil
	}
}

// Alloc reserves n zero bytes and returns their address.
func (t *Table) Alloc(n int) uintptr {
	n = (n + 7) &^ 7
	if n < 0 || t.used+n > len(t.mem) {
		t.err = ErrTooLarge
		return t.base + uintptr(opsSize) // a valid address; Err stops the run
	}
	at := t.base + uintptr(t.used)
	t.used += n
	return at
}

// Bytes copies b into the table and returns its address.
func (t *Table) Bytes(b []byte) uint64 {
	at := t.Alloc(len(b))
	if t.err == nil {
		copy(t.mem[at-t.base:], b)
	}
	return uint64(at)
}

// String copies s with a terminating zero into the table.
func (t *Table) String(s string) uint64 {
	at := t.Alloc(len(s) + 1)
	if t.err == nil {
		copy(t.mem[at-t.base:], s)
	}
	return uint64(at)
}

// Strings makes a null-terminated array of strings, as execve wants it.
func (t *Table) Strings(list []string) uint64 {
	at := t.Alloc(8 * (len(list) + 1))
	for i, s := range list {
		p := t.String(s)
		if t.err == nil {
			*t.Word(uint64(at) + uint64(8*i)) = p
		}
	}
	return uint64(at)
}

// Word is the 64-bit word at an address that Alloc returned.
func (t *Table) Word(at uint64) *uint64 {
	off := uintptr(at) - t.base
	return (*uint64)(unsafe.Pointer(&t.mem[off]))
}

// Load reads a word while the child may write it.
func (t *Table) Load(at uint64) uint64 { return atomic.LoadUint64(t.Word(at)) }

// Store writes a word that the child may be waiting for.
func (t *Table) Store(at, v uint64) { atomic.StoreUint64(t.Word(at), v) }

func (t *Table) op(r Ref) *op {
	return (*op)(unsafe.Pointer(&t.mem[int(r)*int(opSize)]))
}

func (t *Table) addr(r Ref) uint64 { return uint64(t.base) + uint64(r)*opSize }

// Add appends a system call. Arguments are numbers, addresses or Results; name
// says in an error what was being done.
func (t *Table) Add(name string, nr uint64, args ...any) Ref {
	if (t.n+2)*int(opSize) > opsSize {
		t.err = ErrTooLarge
		return 1
	}
	r := Ref(t.n)
	t.n++
	t.names = append(t.names, name)
	o := t.op(r)
	*o = op{nr: nr, next: t.addr(r + 1), alt: t.addr(r + 1)}
	for i, a := range args {
		t.setArg(o, i, a)
	}
	for _, p := range t.open {
		t.link(p, r)
	}
	t.open = t.open[:0]
	return r
}

func (t *Table) setArg(o *op, i int, a any) {
	switch v := a.(type) {
	case int:
		o.args[i] = uint64(v)
	case uint64:
		o.args[i] = v
	case uintptr:
		o.args[i] = uint64(v)
	case uint32:
		o.args[i] = uint64(v)
	case Result:
		o.args[i] = t.addr(Ref(v)) + uint64(unsafe.Offsetof(o.res))
		o.deref |= 1 << i
	case At:
		o.args[i] = uint64(v)
		o.deref |= 1 << i
	default:
		panic(fmt.Sprintf("table: argument of type %T", a))
	}
}

// At is an argument that is read from this address when its turn comes.
type At uint64

// Tolerate makes the errors (none named: all) of r no error; the walk goes on
// with the next operation unless Else says otherwise.
func (t *Table) Tolerate(r Ref, errs ...syscall.Errno) Ref {
	o := t.op(r)
	if len(errs) == 0 {
		o.tol = ^uint64(0)
		return r
	}
	for i, e := range errs {
		o.tol |= uint64(e&0xff) << (8 * i)
	}
	return r
}

// Test goes on with the next operation if v & mask == want, and else where Else says.
func (t *Table) Test(name string, v any, mask, want uint64) Ref {
	return t.Add(name, opTest, v, mask, want)
}

// Copy stores a value at an address.
func (t *Table) Copy(v any, at uint64) Ref { return t.Add("store", opStore, v, at) }

// Spin waits without a system call until the word at an address is not zero.
func (t *Table) Spin(at uint64) Ref { return t.Add("wait for the parent", opSpin, at) }

// Fork clones by the struct clone_args at an address: the child goes on with
// the next operation, the caller where Else says.
func (t *Table) Fork(name string, args uint64, size int) Ref {
	return t.Add(name, opFork, args, size)
}

// Else sends the alternative of r to the operation that is added next.
func (t *Table) Else(r Ref) { t.open = append(t.open, pending{r, true}) }

// Then sends the success of r to the operation that is added next.
func (t *Table) Then(r Ref) { t.open = append(t.open, pending{r, false}) }

// Fail ends the process with an errno, as if a system call had returned it.
func (t *Table) Fail(name string, e syscall.Errno) Ref {
	// An unknown system call number yields ENOSYS; Err translates by this note.
	r := t.Add(name, 0xffff, 0)
	t.op(r).args[5] = uint64(e)
	return r
}

// Next is the operation that will be added next.
func (t *Table) Next() Ref { return Ref(t.n) }

func (t *Table) link(p pending, to Ref) {
	if p.alt {
		t.setAlt(p.ref, to)
	} else {
		t.setNext(p.ref, to)
	}
}

func (t *Table) setNext(r, to Ref) { t.op(r).next = t.addr(to) }
func (t *Table) setAlt(r, to Ref)  { t.op(r).alt = t.addr(to) }

// Value is the result of an operation, negative errno after an error.
func (t *Table) Value(r Ref) int64 { return int64(atomic.LoadUint64(&t.op(r).res)) }

// ResultAt is the address of the result of an operation.
func (t *Table) ResultAt(r Ref) uint64 {
	return t.addr(r) + uint64(unsafe.Offsetof(op{}.res))
}

// PID is the child's process id in our pid namespace, zero before the clone.
func (t *Table) PID() int { return int(uint32(atomic.LoadUint64(&t.hdr.pid))) }

// PIDAt is the address where the kernel stores the child's process id.
func (t *Table) PIDAt() uint64 { return uint64(uintptr(unsafe.Pointer(&t.hdr.pid))) }

// StepError is the failure of one operation in the child.
type StepError struct {
	// Step says what was being done.
	Step string
	// Op is the operation.
	Op Ref
	// Errno is what the kernel answered.
	Errno syscall.Errno
}

func (e *StepError) Error() string { return e.Step + ": " + e.Errno.Error() }

// Unwrap lets errors.Is find the errno.
func (e *StepError) Unwrap() error { return e.Errno }

// Built returns the error of building the table, if any.
func (t *Table) Built() error { return t.err }

// Err is the error that stopped the walk, or nil.
func (t *Table) Err() error {
	at := atomic.LoadUint64(&t.hdr.failed)
	if at == 0 {
		return nil
	}
	r := Ref((at - uint64(t.base)) / opSize)
	e := syscall.Errno(atomic.LoadUint64(&t.hdr.errno))
	if o := t.op(r); o.nr == 0xffff {
		e = syscall.Errno(o.args[5])
	}
	return &StepError{Step: t.names[r], Op: r, Errno: e}
}
