/* What /proc/PID/exe leads to: as the kernel of Mystikos has it, the path by which the process executed its first
 * program, links not followed. */
#ifndef MYST_EXECUTABLES_H
#define MYST_EXECUTABLES_H

#include "call.h"

/* For a call of execve that the system is going to serve. */
void myst_note_executable(const struct myst_call *call);

/* The path of the process's first program, or of the interpreter of the script that it is, up to the next call; NULL
 * where it is not known. */
const char *myst_executable_of(const struct myst_application *application, pid_t process);

/* The process has ended. */
void myst_forget_executable(pid_t process);

#endif
