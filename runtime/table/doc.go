// Package table runs prepared lists of system calls in a fresh process.
//
// A Go program cannot safely run Go code between clone and execve. So the parent
// writes down every system call that the new process shall make, with all
// strings and structures, into an arena of shared memory; a few dozen
// instructions of assembly issue the clone and walk the list. The walker uses
// registers only: no stack, no allocation, no Go runtime, no locks.
//
// An operation names a system call, six arguments, the errors that are no
// error, and where to go on after success or after such an error. Its result is
// stored in the operation itself, where later operations (as an argument) and
// the parent (as a report) find it. An error that is not tolerated stops the
// list: the walker records which operation it was and ends the process.
//
// # Lifecycle
//
// New takes an arena, the builder methods fill it, Run clones and walks, the
// result methods read, Free gives the arena back. Free must not be called while
// a process still walks the table: after Run has returned in a shared-memory
// clone (Run returns when the child has exec'ed or ended) or after the child's
// end otherwise.
//
// # Concurrency
//
// A Table belongs to one goroutine at a time, but for Load and Store, which
// reach single words while the child is walking. Run blocks its thread in the
// kernel; the Go scheduler knows, so neither a P nor a garbage collection waits.
//
// Nothing here survives a crash: a child that shares memory with a parent that
// dies goes on walking, as the arena lives as long as any process maps it.
package table
