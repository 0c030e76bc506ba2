/* For targets whose code ends the process where it refuses something. Linked with --wrap for myst_refuse and
 * myst_refuse_errno, which go back to setjmp(refused) instead. */
#ifndef MYST_FUZZ_REFUSED_H
#define MYST_FUZZ_REFUSED_H

#include "fuzz.h"

#include <setjmp.h>

static jmp_buf refused;

__attribute__((noreturn)) void __wrap_myst_refuse(const char *format, ...);
__attribute__((noreturn)) void __wrap_myst_refuse_errno(const char *format, ...);

void __wrap_myst_refuse(const char *format, ...)
{
    PROMISE(*format);
    longjmp(refused, 1);
}

void __wrap_myst_refuse_errno(const char *format, ...)
{
    PROMISE(*format);
    longjmp(refused, 1);
}

#endif
