#include "error.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 1000

static const char *package_name = "package";

/* Bytes of the UTF-8 character at `p`; 1 for a byte that begins none. */
static size_t size_of_character(const unsigned char *p)
{
    const size_t size = *p < 0xc2 || *p > 0xf4 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
    for (size_t i = 1; i < size; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 1;
    return size;
}

void myst_replace_controls(char *text)
{
    size_t size;
    for (unsigned char *p = (unsigned char *)text; *p; p += size)
    {
        size = size_of_character(p);
        const int c0 = *p < 0x20 || *p == 0x7f, c1 = size == 1 ? *p >= 0x80 && *p < 0xa0 : *p == 0xc2 && p[1] < 0xa0;
        if (c0 || c1)
            memset(p, '?', size);
    }
}

int myst_fail(struct myst_error *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    myst_replace_controls(error->text);
    return -1;
}

void myst_set_package_name(const char *name)
{
    package_name = name;
}

/* One write, so that lines of several processes do not mix. */
__attribute__((format(printf, 2, 0))) static void print_line(const char *subject, const char *format, va_list arguments,
                                                             const char *reason)
{
    char text[1024], line[2048];
    vsnprintf(text, sizeof text, format, arguments);
    snprintf(line, sizeof line - 1, "%.255s: mystikos: %.32s%s%s%s%s", package_name, subject, *subject ? ": " : "",
             text, *reason ? ": " : "", reason);
    myst_replace_controls(line);
    struct pollfd reader = {.fd = STDERR_FILENO, .events = POLLOUT};
    /* A pipe that nobody reads from must not hold the package up. */
    if (poll(&reader, 1, PATIENCE_MS) == 0)
        return;
    /* Nobody is left to be told when this fails. */
    ssize_t written = write(STDERR_FILENO, line, strlen(strcat(line, "\n")));
    (void)written;
}

void myst_note(const char *subject, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_line(subject, format, arguments, "");
    va_end(arguments);
}

void myst_warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_line("warning", format, arguments, "");
    va_end(arguments);
}

void myst_refuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_line("", format, arguments, "");
    _exit(MYST_EXIT_REFUSED);
}

void myst_refuse_errno(const char *format, ...)
{
    const char *reason = strerror(errno);
    va_list arguments;
    va_start(arguments, format);
    print_line("", format, arguments, reason);
    _exit(MYST_EXIT_REFUSED);
}

void *myst_allocated(void *memory)
{
    if (!memory)
        myst_refuse("out of memory");
    return memory;
}
