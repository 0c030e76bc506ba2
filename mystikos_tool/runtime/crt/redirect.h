/* Lets a thread whose system call waits for an answer make another call instead, as if its program had made that. The
 * system has no answer for it: the thread is stopped for a moment, as a debugger would. */
#ifndef MYST_REDIRECT_H
#define MYST_REDIRECT_H

#include "call.h"

/* Returns MYST_REDIRECTED, or MYST_CONTINUE where the thread cannot be stopped, as under a debugger. The new call is
 * judged as any other, except that it is not redirected again. */
int64_t myst_redirect(const struct myst_call *call, long number, const uint64_t arguments[6]);

/* As if it called exit_group; what waits for it sees this status. */
int64_t myst_redirect_to_exit(const struct myst_call *call, int status);

/* To execve of `path` with these arguments and the environment of the call, which is one of execve. */
int64_t myst_redirect_to_program(const struct myst_call *call, const char *path, char *const *arguments,
                                 uint64_t environment);

/* To execve of the path `name` with that as the first argument, and the others that `count` pointers lead to; the first
 * of these is overwritten. */
int64_t myst_redirect_with_first_argument(const struct myst_call *call, const char *name, uint64_t *pointers,
                                          size_t count);

/* To mmap with the arguments `part`, at the address that a mapping with the arguments `whole` gets first. */
int64_t myst_redirect_to_part(const struct myst_call *call, const uint64_t whole[6], const uint64_t part[6]);

/* To the same call, after the signals of the mask, a bit each from signal 1 on, have got their default actions. */
int64_t myst_redirect_without_actions(const struct myst_call *call, uint64_t signals);

/* True once for a call that a thread makes since it was redirected. */
bool myst_is_redirected(const struct myst_call *call);

#endif
