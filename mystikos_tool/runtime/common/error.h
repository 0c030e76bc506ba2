/* Why a package is refused: one line, "<which check>: <what>". */
#ifndef MYST_ERROR_H
#define MYST_ERROR_H

struct myst_error
{
    char text[512];
};

/* Sets the error; returns -1, so that a check can end with `return myst_fail(...)`. Characters that
 * could break the line or fool a terminal become '?'. */
__attribute__((format(printf, 2, 3))) int myst_fail(struct myst_error *error, const char *format, ...);

#endif
