#include "error.h"

#include <stdarg.h>
#include <stdio.h>

int myst_fail(struct myst_error *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    for (char *p = error->text; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    return -1;
}
