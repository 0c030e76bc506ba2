#include "refuse.h"

#include "host.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *package_name = "package";

void myst_set_package_name(const char *name)
{
    package_name = name;
}

/* One write, so that lines of several processes do not mix; control characters would let a hostile
 * name in a message forge lines or drive the terminal. */
__attribute__((format(printf, 2, 0))) static void print_line(const char *label, const char *format, va_list arguments,
                                                             const char *reason)
{
    char line[1024];
    size_t used = 0;
    const size_t room = sizeof line - 1;

    used += (size_t)snprintf(line, room / 2, "%s: mystikos: %s", package_name, label);
    if (used >= room / 2)
        used = room / 2 - 1;
    int n = vsnprintf(line + used, room - used, format, arguments);
    used = n < 0 || (size_t)n >= room - used ? room - 1 : used + (size_t)n;
    if (reason)
    {
        n = snprintf(line + used, room - used, ": %s", reason);
        used = n < 0 || (size_t)n >= room - used ? room - 1 : used + (size_t)n;
    }
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    /* Nobody is left to be told when this fails. */
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written;
}

void myst_note(const char *subject, const char *format, ...)
{
    char label[32];
    va_list arguments;
    snprintf(label, sizeof label, "%s: ", subject);
    va_start(arguments, format);
    print_line(label, format, arguments, NULL);
    va_end(arguments);
}

void myst_warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_line("warning: ", format, arguments, NULL);
    va_end(arguments);
}

void myst_refuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_line("", format, arguments, NULL);
    va_end(arguments);
    _exit(MYST_EXIT_REFUSED);
}

void myst_refuse_errno(const char *format, ...)
{
    const char *reason = strerror(errno);
    va_list arguments;
    va_start(arguments, format);
    print_line("", format, arguments, reason);
    va_end(arguments);
    _exit(MYST_EXIT_REFUSED);
}
