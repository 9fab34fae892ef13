#include "textflag.h"

// func address() uintptr
TEXT ·address(SB), NOSPLIT, $0-8
	LEAQ ·program(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// The program. It is copied into a file and never run in this process: it may use
// registers, its stack, and jumps within itself, nothing else.
//
// BX arguments of the command, R14 the environment, later whether the command has
// ended, R12 its process, R13 its status, R15 scratch memory below the stack:
// 0 the blocked signals, 8 those that were blocked before, 16 a status,
// 24 a process group, 32 a message, 256 a path. Nothing interrupts the program, so
// what lies below the stack's end stays as it is.
TEXT ·program(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ 0(SP), CX
	LEAQ 16(SP)(CX*8), R14
	LEAQ 16(SP), BX
	LEAQ -8192(SP), R15
	MOVQ 0(BX), AX
	TESTQ AX, AX
	JZ   nothing
	CMPB 0(AX), $0x2d // "--"
	JNE  block
	CMPB 1(AX), $0x2d
	JNE  block
	CMPB 2(AX), $0
	JNE  block
	ADDQ $8, BX
	CMPQ 0(BX), $0
	JEQ  nothing

block: // all signals but those of its own mistakes: ILL, TRAP, BUS, FPE, SEGV, SYS
	MOVQ $0xFFFFFFFFBFFFFB27, AX
	MOVQ AX, 0(R15)
	MOVL $14, AX // rt_sigprocmask
	MOVL $2, DI  // SIG_SETMASK
	MOVQ R15, SI
	LEAQ 8(R15), DX
	MOVL $8, R10
	SYSCALL
	MOVL $157, AX // prctl
	MOVL $36, DI  // PR_SET_CHILD_SUBREAPER
	MOVL $1, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL
	MOVL $56, AX  // clone
	MOVL $17, DI  // SIGCHLD
	XORL SI, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL
	TESTQ AX, AX
	JS   nothing
	JZ   child
	MOVQ AX, R12
	XORL R14, R14

wait:
	MOVL $128, AX // rt_sigtimedwait
	MOVQ R15, DI
	XORL SI, SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
	CMPQ AX, $17
	JEQ  reap
	TESTQ AX, AX
	JLE  wait
	MOVQ AX, SI
	MOVQ R12, DI
	MOVL $62, AX // kill
	SYSCALL
	JMP  wait

reap:
	MOVL $61, AX // wait4
	MOVQ $-1, DI
	LEAQ 16(R15), SI
	MOVL $1, DX // WNOHANG
	XORL R10, R10
	SYSCALL
	TESTQ AX, AX
	JLE  reaped
	CMPQ AX, R12
	JNE  reap
	MOVL 16(R15), R13
	MOVL $1, R14
	JMP  reap

reaped:
	TESTL R14, R14
	JZ   wait
	MOVL R13, DI
	ANDL $0x7f, DI
	JNZ  killed
	SHRL $8, R13
	MOVL R13, DI
	ANDL $0xff, DI
	JMP  exit

killed:
	ADDL $128, DI

exit:
	MOVL $231, AX // exit_group
	SYSCALL

nothing:
	MOVL $127, DI
	JMP  exit

child: // a process group of its own, the terminal's if there is one
	MOVL $109, AX // setpgid
	XORL DI, DI
	XORL SI, SI
	SYSCALL
	MOVL $39, AX // getpid
	SYSCALL
	MOVL AX, 24(R15)
	MOVL $16, AX // ioctl
	XORL DI, DI
	MOVL $0x5410, SI // TIOCSPGRP
	LEAQ 24(R15), DX
	SYSCALL
	MOVL $14, AX
	MOVL $2, DI
	LEAQ 8(R15), SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
	MOVL $2, R13 // ENOENT
	MOVQ 0(BX), R8
	MOVQ R8, SI

scan: // SI becomes the end of the name
	MOVB (SI), AX
	TESTB AX, AX
	JZ   search
	CMPB AX, $0x2f
	JEQ  direct
	INCQ SI
	JMP  scan

direct:
	MOVL $59, AX // execve
	MOVQ R8, DI
	MOVQ BX, SI
	MOVQ R14, DX
	SYSCALL
	NEGL AX
	MOVL AX, R13
	JMP  failed

search:
	SUBQ R8, SI
	CMPQ SI, $0
	JEQ  failed
	CMPQ SI, $255
	JHI  failed
	MOVQ R14, DX

variable:
	MOVQ (DX), SI
	ADDQ $8, DX
	TESTQ SI, SI
	JZ   failed
	CMPL (SI), $0x48544150 // "PATH"
	JNE  variable
	CMPB 4(SI), $0x3d
	JNE  variable
	ADDQ $5, SI

element: // of the list of folders
	LEAQ 256(R15), DI
	LEAQ 4256(R15), R9

folder:
	MOVB (SI), AX
	TESTB AX, AX
	JZ   whole
	CMPB AX, $0x3a
	JEQ  whole
	INCQ SI
	CMPQ DI, R9
	JCC  folder // longer than any path
	MOVB AX, (DI)
	INCQ DI
	JMP  folder

whole:
	CMPQ DI, R9
	JCC  next
	LEAQ 256(R15), DX
	CMPQ DI, DX
	JEQ  name // an empty one is the working folder
	MOVB $0x2f, (DI)
	INCQ DI

name:
	MOVQ R8, DX

letter:
	MOVB (DX), AX
	MOVB AX, (DI)
	INCQ DX
	INCQ DI
	TESTB AX, AX
	JNZ  letter
	MOVQ SI, R12
	MOVL $59, AX
	LEAQ 256(R15), DI
	MOVQ BX, SI
	MOVQ R14, DX
	SYSCALL
	MOVQ R12, SI
	NEGL AX
	CMPL AX, $2 // ENOENT
	JEQ  next
	CMPL AX, $20 // ENOTDIR
	JEQ  next
	MOVL AX, R13
	CMPL AX, $13 // EACCES: another folder may have it
	JNE  failed

next:
	CMPB (SI), $0
	JEQ  failed
	INCQ SI
	JMP  element

failed: // R13 says why
	MOVQ R8, DX

length:
	CMPB (DX), $0
	JEQ  say
	INCQ DX
	JMP  length

say:
	SUBQ R8, DX
	MOVL $1, AX // write
	MOVL $2, DI
	MOVQ R8, SI
	SYSCALL
	CMPL R13, $2
	JEQ  missing
	MOVQ $0x746f6e6e6163203a, AX // ": cannot", " be run\n"
	MOVQ AX, 32(R15)
	MOVQ $0x0a6e757220656220, AX
	MOVQ AX, 40(R15)
	MOVL $16, DX
	MOVL $126, R13
	JMP  tell

missing:
	MOVQ $0x6f6620746f6e203a, AX // ": not fo", "und\n"
	MOVQ AX, 32(R15)
	MOVL $0x0a646e75, 40(R15)
	MOVL $12, DX
	MOVL $127, R13

tell:
	MOVL $1, AX
	MOVL $2, DI
	LEAQ 32(R15), SI
	SYSCALL
	MOVL R13, DI
	JMP  exit

	LONG $0x2d646970 // the end: "pid-one."
	LONG $0x2e656e6f
