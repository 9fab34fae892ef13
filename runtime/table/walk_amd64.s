#include "textflag.h"

// Offsets of fields of the struct op; op_test.go checks them.
#define NR 0
#define A0 8
#define A1 16
#define A2 24
#define A3 32
#define A4 40
#define A5 48
#define DEREF 56
#define RES 64
#define TOL 72
#define NEXT 80
#define ALT 88

// Offsets of fields of the struct header.
#define FAILED 0
#define ERRNO 8

// LOAD puts argument off into reg, through a pointer if bit of R8 is set.
#define LOAD(off, bit, reg) \
	MOVQ off(R12), reg; \
	BTQ $bit, BX; \
	JCC 2(PC); \
	MOVQ (reg), reg

// func walk(first *op, hdr *header)
//
// Registers: R12 the operation, R13 the header. The stack is read once, before
// the first system call, and by RET, which only the calling thread reaches.
TEXT ·walk(SB),NOSPLIT,$0-16
	MOVQ	first+0(FP), R12
	MOVQ	hdr+8(FP), R13
loop:
	MOVQ	DEREF(R12), BX
	LOAD(A0, 0, DI)
	LOAD(A1, 1, SI)
	LOAD(A2, 2, DX)
	LOAD(A3, 3, R10)
	LOAD(A4, 4, R8)
	LOAD(A5, 5, R9)
	MOVQ	NR(R12), AX
	CMPQ	AX, $0x10000
	JAE	pseudo
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JAE	failed
	MOVQ	AX, RES(R12)
	MOVQ	NEXT(R12), R12
	JMP	loop

failed:
	MOVQ	AX, RES(R12)
	NEGQ	AX
	MOVQ	TOL(R12), CX
	CMPQ	CX, $-1
	JEQ	alt
tol:
	TESTQ	CX, CX
	JEQ	fatal
	MOVBQZX	CL, DX
	CMPQ	DX, AX
	JEQ	alt
	SHRQ	$8, CX
	JMP	tol
alt:
	MOVQ	ALT(R12), R12
	JMP	loop

fatal:
	MOVQ	AX, ERRNO(R13)
	MOVQ	R12, FAILED(R13)
	MOVQ	$127, DI
	MOVQ	$231, AX // exit_group
	SYSCALL
	MOVQ	$60, AX // exit
	SYSCALL
	UNDEF

pseudo:
	CMPQ	AX, $0x10000
	JEQ	return
	CMPQ	AX, $0x10001
	JEQ	test
	CMPQ	AX, $0x10002
	JEQ	store
	CMPQ	AX, $0x10003
	JEQ	spin
	CMPQ	AX, $0x10004
	JEQ	fork
	UNDEF

test: // (A0 & A1) == A2: NEXT, else ALT
	ANDQ	SI, DI
	MOVQ	DI, RES(R12)
	CMPQ	DI, DX
	JNE	alt
	MOVQ	NEXT(R12), R12
	JMP	loop

store: // *A1 = A0
	MOVQ	DI, (SI)
	MOVQ	NEXT(R12), R12
	JMP	loop

spin: // until *A0 != 0
	MOVQ	(DI), AX
	TESTQ	AX, AX
	JNE	spun
	PAUSE
	JMP	spin
spun:
	MOVQ	NEXT(R12), R12
	JMP	loop

fork: // clone3(A0, A1): the child goes on at NEXT, the caller at ALT
	MOVQ	$435, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	MOVQ	AX, RES(R12)
	JMP	alt
child:
	MOVQ	NEXT(R12), R12
	JMP	loop

return:
	RET
