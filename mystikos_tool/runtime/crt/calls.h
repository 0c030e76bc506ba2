/* The system calls of x86-64 Linux, and what the Mystikos kernel does with each (kernel/syscall.c in its sources). */
#ifndef MYST_CALLS_H
#define MYST_CALLS_H

enum myst_treatment
{
    MYST_CALL_SERVED,
    /* Not by Mystikos' kernel, which stops the program or says ENOSYS (UnhandledSyscallEnosys). */
    MYST_CALL_UNHANDLED,
    /* Made by a C library on its own where Mystikos' C library has no such call; every C library does with
     * something older when it gets ENOSYS. */
    MYST_CALL_ABSENT,
};

/* One more than the largest number in the table. */
#define MYST_CALL_COUNT 468

/* Mystikos' own calls lie here; they need its enclave, and fail with ENOSYS. */
#define MYST_OWN_CALLS_FIRST 1000
#define MYST_OWN_CALLS_END 3000

enum myst_treatment myst_call_treatment(unsigned number);

/* NULL for a number without a call. */
const char *myst_call_name(unsigned number);

#endif
