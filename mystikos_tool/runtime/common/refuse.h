/* One line on stderr for whoever started the package, and the exit status of a refusal. */
#ifndef MYST_REFUSE_H
#define MYST_REFUSE_H

/* What lines begin with: "<name>: mystikos: ". Not copied. */
void myst_set_package_name(const char *name);

/* A line that begins with the package's name and the subject, of at most 29 characters. */
__attribute__((format(printf, 2, 3))) void myst_note(const char *subject, const char *format, ...);

__attribute__((format(printf, 1, 2))) void myst_warn(const char *format, ...);

/* Ends the process with MYST_EXIT_REFUSED. */
__attribute__((noreturn, format(printf, 1, 2))) void myst_refuse(const char *format, ...);

/* The same with ": " and the text of errno behind it. */
__attribute__((noreturn, format(printf, 1, 2))) void myst_refuse_errno(const char *format, ...);

#endif
