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

// LOAD puts argument off into reg, through a pointer if bit of R11 is set.
#define LOAD(off, bit, reg) \
	MOVD off(R19), reg; \
	TBZ $bit, R11, 2(PC); \
	MOVD (reg), reg

// func walk(first *op, hdr *header)
//
// Registers: R19 the operation, R20 the header. The return address is kept in
// R21, as the child must not touch the stack.
TEXT ·walk(SB),NOSPLIT|NOFRAME,$0-16
	MOVD	first+0(FP), R19
	MOVD	hdr+8(FP), R20
loop:
	MOVD	DEREF(R19), R11
	LOAD(A0, 0, R0)
	LOAD(A1, 1, R1)
	LOAD(A2, 2, R2)
	LOAD(A3, 3, R3)
	LOAD(A4, 4, R4)
	LOAD(A5, 5, R5)
	MOVD	NR(R19), R8
	MOVD	$0x10000, R9
	CMP	R9, R8
	BHS	pseudo
	SVC
	MOVD	R0, RES(R19)
	CMN	$4095, R0
	BHS	failed
	MOVD	NEXT(R19), R19
	B	loop

failed:
	NEG	R0, R0
	MOVD	TOL(R19), R1
	CMN	$1, R1
	BEQ	alt
tol:
	CBZ	R1, fatal
	AND	$0xff, R1, R2
	CMP	R2, R0
	BEQ	alt
	LSR	$8, R1, R1
	B	tol
alt:
	MOVD	ALT(R19), R19
	B	loop

fatal:
	MOVD	R0, ERRNO(R20)
	MOVD	R19, FAILED(R20)
	MOVD	$127, R0
	MOVD	$94, R8 // exit_group
	SVC
	MOVD	$93, R8 // exit
	SVC
	UNDEF

pseudo:
	SUB	R9, R8, R8
	CBZ	R8, return
	CMP	$1, R8
	BEQ	test
	CMP	$2, R8
	BEQ	store
	CMP	$3, R8
	BEQ	spin
	CMP	$4, R8
	BEQ	fork
	UNDEF

test: // (A0 & A1) == A2: NEXT, else ALT
	AND	R1, R0, R0
	MOVD	R0, RES(R19)
	CMP	R2, R0
	BNE	alt
	MOVD	NEXT(R19), R19
	B	loop

store: // *A1 = A0
	MOVD	R0, (R1)
	MOVD	NEXT(R19), R19
	B	loop

spin: // until *A0 != 0
	LDAR	(R0), R1
	CBNZ	R1, spun
	YIELD
	B	spin
spun:
	MOVD	NEXT(R19), R19
	B	loop

fork: // clone3(A0, A1): the child goes on at NEXT, the caller at ALT
	MOVD	$435, R8
	SVC
	CBZ	R0, child
	MOVD	R0, RES(R19)
	B	alt
child:
	MOVD	NEXT(R19), R19
	B	loop

return:
	RET
