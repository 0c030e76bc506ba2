/* How every part of the runtime says what is wrong. What can be asked (parsers, checks) sets an error and returns -1;
 * what cannot go on refuses: it ends the process after one line on standard error,
 * "<package>: mystikos: <where>: <what is wrong; what to do>". */
#ifndef MYST_ERROR_H
#define MYST_ERROR_H

/* The exit status of whatever fails before the application runs. */
#define MYST_EXIT_REFUSED 125

/* What is wrong, as a line begins after the package's name. */
struct myst_error
{
    char text[512];
};

/* Sets the error; returns -1, so that a check can end with `return myst_fail(...)`. */
__attribute__((format(printf, 2, 3))) int myst_fail(struct myst_error *error, const char *format, ...);

/* What lines begin with. Not copied. */
void myst_set_package_name(const char *name);

/* A line "<package>: mystikos: <subject>: ..." about what happens while the application runs. */
__attribute__((format(printf, 2, 3))) void myst_note(const char *subject, const char *format, ...);

__attribute__((format(printf, 1, 2))) void myst_warn(const char *format, ...);

/* Ends the process with MYST_EXIT_REFUSED. */
__attribute__((noreturn, format(printf, 1, 2))) void myst_refuse(const char *format, ...);

/* The same with ": " and the text of errno behind it. */
__attribute__((noreturn, format(printf, 1, 2))) void myst_refuse_errno(const char *format, ...);

/* Returns the memory that was asked for; refuses to go on without it. */
void *myst_allocated(void *memory);

/* Puts a '?' in place of each byte of a control character (C0, DEL, and C1 by itself or in UTF-8): a name in a message
 * must not break its line or drive a terminal. All lines and errors above have gone through it. */
void myst_replace_controls(char *text);

#endif
