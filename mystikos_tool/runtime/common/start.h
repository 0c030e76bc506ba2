/* Starts an ELF image that is in memory already, as execve would after mapping it: builds the
 * initial stack (System V ABI, AMD64 supplement, section 3.4.1) and jumps to the entry point.
 *
 * Freestanding: usable with and without a C library. The image is a static PIE whose first
 * PT_LOAD has virtual address 0; it relocates itself, for which it needs AT_PHDR. */
#ifndef MYST_START_H
#define MYST_START_H

#include "sizes.h"

#include <stddef.h>
#include <stdint.h>

struct myst_auxv
{
    uint64_t type;
    uint64_t value;
};

/* Types of auxiliary vector entries (Linux: include/uapi/linux/auxvec.h). */
enum
{
    MYST_AT_NULL = 0,
    MYST_AT_PHDR = 3,
    MYST_AT_PHENT = 4,
    MYST_AT_PHNUM = 5,
    MYST_AT_PAGESZ = 6,
    MYST_AT_BASE = 7,
    MYST_AT_ENTRY = 9,
    MYST_AT_UID = 11,
    MYST_AT_EUID = 12,
    MYST_AT_GID = 13,
    MYST_AT_EGID = 14,
    MYST_AT_HWCAP = 16,
    MYST_AT_CLKTCK = 17,
    MYST_AT_SECURE = 23,
    MYST_AT_RANDOM = 25,
    MYST_AT_HWCAP2 = 26,
    MYST_AT_EXECFN = 31,
    MYST_AT_SYSINFO_EHDR = 33,
    MYST_AT_MINSIGSTKSZ = 51,
};

/* True of what describes the machine and the process; all else describes the program that the host
 * started, and would be wrong for the image. */
static inline int myst_auxv_is_passed_on(uint64_t type)
{
    switch (type)
    {
    case MYST_AT_UID:
    case MYST_AT_EUID:
    case MYST_AT_GID:
    case MYST_AT_EGID:
    case MYST_AT_HWCAP:
    case MYST_AT_HWCAP2:
    case MYST_AT_CLKTCK:
    case MYST_AT_SYSINFO_EHDR:
    case MYST_AT_MINSIGSTKSZ:
        return 1;
    default:
        return 0;
    }
}

/* The auxiliary vector follows the environment's terminating NULL on an initial stack. Valid as
 * long as envp is the array that the process was started with. */
static inline const void *myst_auxv_after(char *const *envp)
{
    while (*envp)
        envp++;
    return envp + 1;
}

static inline long myst_syscall3(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

/* Gives the control flow to the image at image_base (its ELF header) on the stack that ends below
 * stack_top. The strings of argv and envp are not copied. host_auxv is an auxiliary vector that
 * machine facts are taken from, or NULL. The image finds handoff in its auxiliary vector under
 * handoff_type. Needs 1 KiB of stack beside 8 bytes for each argument and variable. */
__attribute__((noreturn)) static inline void myst_start_image(const void *image_base, void *stack_top, int argc,
                                                              char *const *argv, char *const *envp,
                                                              const void *host_auxv, uint64_t handoff_type,
                                                              const void *handoff)
{
    const unsigned char *image = image_base;
    /* Elf64_Ehdr: e_entry, e_phoff, e_phentsize, e_phnum. */
    const uint64_t entry = (uint64_t)image + *(const uint64_t *)(image + 24);
    const uint64_t phoff = *(const uint64_t *)(image + 32);
    const uint16_t phentsize = *(const uint16_t *)(image + 54);
    const uint16_t phnum = *(const uint16_t *)(image + 56);
    const long sys_getrandom = 318;

    uint64_t *random = (uint64_t *)((uint64_t)stack_top & ~(uint64_t)15) - 2;
    /* 16 bytes are delivered whole once the pool is ready (getrandom(2)). A Linux without the call
     * leaves the zeros of AT_RANDOM's place: no secret depends on it alone. */
    random[0] = random[1] = 0;
    while (myst_syscall3(sys_getrandom, (long)random, 16, 0) == -4 /* EINTR */)
        ;

    struct myst_auxv own[] = {
        {MYST_AT_PHDR, (uint64_t)image + phoff},
        {MYST_AT_PHENT, phentsize},
        {MYST_AT_PHNUM, phnum},
        {MYST_AT_PAGESZ, MYST_PAGE},
        {MYST_AT_BASE, 0},
        {MYST_AT_ENTRY, entry},
        {MYST_AT_SECURE, 0},
        {MYST_AT_RANDOM, (uint64_t)random},
        {MYST_AT_EXECFN, (uint64_t)(argc > 0 ? argv[0] : "")},
        {handoff_type, (uint64_t)handoff},
        {MYST_AT_NULL, 0},
    };

    size_t envc = 0;
    while (envp && envp[envc])
        envc++;
    size_t auxc = MYST_COUNT(own);
    for (const struct myst_auxv *a = host_auxv; a && a->type != MYST_AT_NULL; a++)
        auxc += (size_t)myst_auxv_is_passed_on(a->type);

    const size_t words = 1 + (size_t)argc + 1 + envc + 1 + 2 * auxc;
    uint64_t *stack = (uint64_t *)((uint64_t)(random - words) & ~(uint64_t)15);
    uint64_t *p = stack;
    *p++ = (uint64_t)argc;
    for (int i = 0; i < argc; i++)
        *p++ = (uint64_t)argv[i];
    *p++ = 0;
    for (size_t i = 0; i < envc; i++)
        *p++ = (uint64_t)envp[i];
    *p++ = 0;
    for (const struct myst_auxv *a = host_auxv; a && a->type != MYST_AT_NULL; a++)
    {
        if (!myst_auxv_is_passed_on(a->type))
            continue;
        *p++ = a->type;
        *p++ = a->value;
    }
    for (size_t i = 0; i < MYST_COUNT(own); i++)
    {
        *p++ = own[i].type;
        *p++ = own[i].value;
    }

    /* rdx is a function to call at exit: none. */
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "xor %%edx, %%edx\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "jmp *%1"
                     :
                     : "a"(stack), "c"(entry)
                     : "rdx", "memory");
    __builtin_unreachable();
}

#endif
