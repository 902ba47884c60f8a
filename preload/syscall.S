/*
 * syscall(2) itself. Programs wait on futexes by number millions of times, so a number that is
 * of no interest costs a load and a jump to libc's.
 *
 * It is in assembly because on x86-64 the sixth argument is on the stack, where a caller that
 * passes fewer has data of its own: a compiler may rewrite that word with the same value, and so
 * undo what another thread stores there in between. This only ever reads it, as libc does.
 */
#if defined(__CET__)
#include <cet.h>
#endif
#ifndef _CET_ENDBR
#define _CET_ENDBR
#endif

#define NUMBERS 512 /* as in hooks_syscall.c */

        .text
        .globl  syscall
        .type   syscall, %function
        .hidden kq_syscall_table
        .hidden kq_syscall_real
        .hidden kq_syscall_dispatch
        .hidden kq_syscall_early
        .hidden kq_fd_limit
        .p2align 4

#if defined(__x86_64__)
syscall:
        .cfi_startproc
        _CET_ENDBR
        cmpq    $NUMBERS, %rdi
        jae     1f
        leaq    kq_syscall_table(%rip), %rax
        movzbl  (%rax, %rdi), %eax
        testl   %eax, %eax
        jne     2f
1:      movq    kq_syscall_real(%rip), %rax
        testq   %rax, %rax
        je      3f
        jmp     *%rax
2:      cmpl    $2, %eax
        je      5f
        cmpl    $0, kq_fd_limit(%rip)
        je      1b
5:      leaq    kq_syscall_dispatch(%rip), %rax
        jmp     4f
3:      leaq    kq_syscall_early(%rip), %rax
        /* Aligned again by the copy of the sixth argument. */
4:      pushq   8(%rsp)
        .cfi_adjust_cfa_offset 8
        call    *%rax
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        ret
        .cfi_endproc
#elif defined(__aarch64__)
syscall:
        .cfi_startproc
        hint    #34 /* bti c */
        cmp     x0, #NUMBERS
        b.hs    1f
        adrp    x9, kq_syscall_table
        add     x9, x9, :lo12:kq_syscall_table
        ldrb    w9, [x9, x0]
        cbnz    w9, 2f
1:      adrp    x16, kq_syscall_real
        ldr     x16, [x16, :lo12:kq_syscall_real]
        cbz     x16, 3f
        br      x16
2:      cmp     w9, #2
        b.eq    5f
        adrp    x9, kq_fd_limit
        ldr     w9, [x9, :lo12:kq_fd_limit]
        cbz     w9, 1b
5:      b       kq_syscall_dispatch
3:      b       kq_syscall_early
        .cfi_endproc
#endif
        .size   syscall, . - syscall

#if defined(__aarch64__) && defined(__ARM_FEATURE_BTI_DEFAULT)
        /* Without this note the linker would drop the mark from the whole library. */
        .pushsection .note.gnu.property, "a", %note
        .p2align 3
        .word   4, 16, 5
        .asciz  "GNU"
        .word   0xc0000000, 4, 1, 0
        .popsection
#endif
        .section .note.GNU-stack, "", %progbits
