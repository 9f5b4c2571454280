/*
 * reset.S: from the reset vector to Linux's 64-bit entry.
 *
 * The last 256 bytes of a ROM that ends at 4 GiB. A vCPU that nobody touched starts at `reset_vector`, in real mode
 * with CS.base 0xFFFF0000 (Intel SDM volume 3, 10.1.4). The loader has left a block in RAM at HANDOVER
 * (src/memory/layout.ts, RESET_HANDOVER_ADDR):
 *
 *   +0   u64  entry point        +16  u64  CR3, identity-mapping 4 GiB
 *   +8   u64  RSI: boot_params   +24  u64  RSP
 *   +32  u16, u64  GDT limit and base: 0x10 64-bit code, 0x18 data (boot.rst, "64-bit boot protocol")
 *
 * Only plain instructions are used: some hosts interpret ring 0.
 */
	.set HANDOVER, 0x600
	.set CR0_PE_ET, 0x11
	.set CR0_PG_PE_ET, 0x80000011
	.set CR4_PAE, 0x20
	.set MSR_EFER, 0xc0000080
	.set EFER_LME, 0x100
	.set CODE32, 0x08
	.set CODE64, 0x10
	.set DATA, 0x18

	.section .text
	.globl _start
_start:
	.code16
real_mode:
	cli
	cld
	lgdtl	%cs:(gdt_pointer - _start + 0xff00)
	movl	$CR0_PE_ET, %eax	/* PE, and the caches on: CD and NW are set at reset */
	movl	%eax, %cr0
	ljmpl	$CODE32, $protected_mode

	.code32
protected_mode:
	movl	$DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	HANDOVER + 16, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	movl	$EFER_LME, %eax
	xorl	%edx, %edx
	wrmsr
	movl	$CR0_PG_PE_ET, %eax
	movl	%eax, %cr0
	ljmpl	$CODE64, $long_mode

	.code64
long_mode:
	lgdt	HANDOVER + 32
	movl	$DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	movq	HANDOVER + 24, %rsp
	movq	HANDOVER + 8, %rsi
	movq	HANDOVER, %rax
	xorl	%ebx, %ebx
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xorl	%edi, %edi
	xorl	%ebp, %ebp
	jmp	*%rax

	.balign 8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* CODE32: flat, 32-bit */
	.quad	0x00af9b000000ffff	/* CODE64: flat, long */
	.quad	0x00cf93000000ffff	/* DATA: flat */
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt

	.org	0xf0, 0xf4		/* hlt */
	.code16
reset_vector:
	jmp	real_mode
	.org	0x100, 0xf4
