#include "textflag.h"

// func address() uintptr
TEXT ·address(SB), NOSPLIT, $0-8
	MOVD $·program(SB), R0
	MOVD R0, ret+0(FP)
	RET

// The program, as in program_amd64.s.
//
// R19 arguments of the command, R20 environment, R21 the command's process,
// R22 its status, R23 whether it has ended, R24 scratch memory, R25 the command's name.
TEXT ·program(SB), NOSPLIT|NOFRAME, $0-0
	MOVD RSP, R9
	MOVD 0(R9), R10
	ADD  $16, R9, R19
	ADD  R10<<3, R9, R20
	ADD  $16, R20
	SUB  $8192, R9, R24
	MOVD 0(R19), R0
	CBZ  R0, nothing
	MOVBU 0(R0), R1
	CMPW $0x2d, R1
	BNE  block
	MOVBU 1(R0), R1
	CMPW $0x2d, R1
	BNE  block
	MOVBU 2(R0), R1
	CBNZ R1, block
	ADD  $8, R19
	MOVD 0(R19), R0
	CBZ  R0, nothing

block:
	MOVD $-1, R0
	MOVK $0xFB27, R0
	MOVK $(0xBFFF<<16), R0
	MOVD R0, 0(R24)
	MOVD $2, R0
	MOVD R24, R1
	ADD  $8, R24, R2
	MOVD $8, R3
	MOVD $135, R8 // rt_sigprocmask
	SVC
	MOVD $36, R0
	MOVD $1, R1
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $167, R8 // prctl
	SVC
	MOVD $17, R0
	MOVD ZR, R1
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $220, R8 // clone
	SVC
	CMP  $0, R0
	BLT  nothing
	BEQ  child
	MOVD R0, R21
	MOVD ZR, R23

wait:
	MOVD R24, R0
	MOVD ZR, R1
	MOVD ZR, R2
	MOVD $8, R3
	MOVD $137, R8 // rt_sigtimedwait
	SVC
	CMP  $17, R0
	BEQ  reap
	CMP  $0, R0
	BLE  wait
	MOVD R0, R1
	MOVD R21, R0
	MOVD $129, R8 // kill
	SVC
	B    wait

reap:
	MOVD $-1, R0
	ADD  $16, R24, R1
	MOVD $1, R2
	MOVD ZR, R3
	MOVD $260, R8 // wait4
	SVC
	CMP  $0, R0
	BLE  reaped
	CMP  R21, R0
	BNE  reap
	MOVWU 16(R24), R22
	MOVD $1, R23
	B    reap

reaped:
	CBZ  R23, wait
	AND  $0x7f, R22, R0
	CBNZ R0, killed
	LSR  $8, R22, R0
	AND  $0xff, R0, R0
	B    exit

killed:
	ADD  $128, R0

exit:
	MOVD $94, R8 // exit_group
	SVC

nothing:
	MOVD $127, R0
	B    exit

child:
	MOVD ZR, R0
	MOVD ZR, R1
	MOVD $154, R8 // setpgid
	SVC
	MOVD $172, R8 // getpid
	SVC
	MOVW R0, 24(R24)
	MOVD ZR, R0
	MOVD $0x5410, R1
	ADD  $24, R24, R2
	MOVD $29, R8 // ioctl
	SVC
	MOVD $2, R0
	ADD  $8, R24, R1
	MOVD ZR, R2
	MOVD $8, R3
	MOVD $135, R8
	SVC
	MOVD $2, R22
	MOVD 0(R19), R25
	MOVD R25, R9

scan:
	MOVBU (R9), R1
	CBZ  R1, search
	CMPW $0x2f, R1
	BEQ  direct
	ADD  $1, R9
	B    scan

direct:
	MOVD R25, R0
	MOVD R19, R1
	MOVD R20, R2
	MOVD $221, R8 // execve
	SVC
	NEG  R0, R22
	B    failed

search:
	SUB  R25, R9
	CBZ  R9, failed
	CMP  $255, R9
	BHI  failed
	MOVD R20, R10

variable:
	MOVD (R10), R9
	ADD  $8, R10
	CBZ  R9, failed
	MOVBU 0(R9), R1
	CMPW $0x50, R1
	BNE  variable
	MOVBU 1(R9), R1
	CMPW $0x41, R1
	BNE  variable
	MOVBU 2(R9), R1
	CMPW $0x54, R1
	BNE  variable
	MOVBU 3(R9), R1
	CMPW $0x48, R1
	BNE  variable
	MOVBU 4(R9), R1
	CMPW $0x3d, R1
	BNE  variable
	ADD  $5, R9

element:
	ADD  $256, R24, R10
	ADD  $4000, R10, R11

folder:
	MOVBU (R9), R1
	CBZ  R1, whole
	CMPW $0x3a, R1
	BEQ  whole
	ADD  $1, R9
	CMP  R11, R10
	BHS  folder
	MOVB R1, (R10)
	ADD  $1, R10
	B    folder

whole:
	CMP  R11, R10
	BHS  next
	ADD  $256, R24, R2
	CMP  R2, R10
	BEQ  name
	MOVD $0x2f, R1
	MOVB R1, (R10)
	ADD  $1, R10

name:
	MOVD R25, R2

letter:
	MOVBU (R2), R1
	MOVB R1, (R10)
	ADD  $1, R2
	ADD  $1, R10
	CBNZ R1, letter
	ADD  $256, R24, R0
	MOVD R19, R1
	MOVD R20, R2
	MOVD $221, R8
	SVC
	NEG  R0, R0
	CMP  $2, R0
	BEQ  next
	CMP  $20, R0
	BEQ  next
	MOVD R0, R22
	CMP  $13, R0
	BNE  failed

next:
	MOVBU (R9), R1
	CBZ  R1, failed
	ADD  $1, R9
	B    element

failed:
	MOVD R25, R2

length:
	MOVBU (R2), R1
	CBZ  R1, say
	ADD  $1, R2
	B    length

say:
	SUB  R25, R2
	MOVD $2, R0
	MOVD R25, R1
	MOVD $64, R8 // write
	SVC
	CMP  $2, R22
	BEQ  missing
	MOVD $0x203a, R0 // ": cannot be run\n"
	MOVK $(0x6163<<16), R0
	MOVK $(0x6e6e<<32), R0
	MOVK $(0x746f<<48), R0
	MOVD R0, 32(R24)
	MOVD $0x6220, R0
	MOVK $(0x2065<<16), R0
	MOVK $(0x7572<<32), R0
	MOVK $(0x0a6e<<48), R0
	MOVD R0, 40(R24)
	MOVD $16, R2
	MOVD $126, R22
	B    tell

missing:
	MOVD $0x203a, R0 // ": not found\n"
	MOVK $(0x6f6e<<16), R0
	MOVK $(0x2074<<32), R0
	MOVK $(0x6f66<<48), R0
	MOVD R0, 32(R24)
	MOVD $0x6e75, R0
	MOVK $(0x0a64<<16), R0
	MOVW R0, 40(R24)
	MOVD $12, R2
	MOVD $127, R22

tell:
	MOVD $2, R0
	ADD  $32, R24, R1
	MOVD $64, R8
	SVC
	MOVD R22, R0
	B    exit

	WORD $0x2d646970
	WORD $0x2e656e6f
