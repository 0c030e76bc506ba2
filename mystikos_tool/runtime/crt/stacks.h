/* Gives programs the stacks that the configuration asks for, which Linux has no setting for: ThreadStackSize and
 * ExecStack. Every program that the application executes is stopped once before its first instruction, changed, and let
 * go. */
#ifndef MYST_STACKS_H
#define MYST_STACKS_H

#include "../common/application.h"

#include <sys/types.h>

/* Called by the process that will become the application. */
void myst_expect_first_program(void);

/* Called once by the parent of that process. */
void myst_note_first_program(pid_t application);

/* The thread is about to execute a program. False with errno when it cannot be watched. */
bool myst_expect_program(pid_t thread);

/* Called for every thread that waitpid reports as ended. */
void myst_forget_thread(pid_t thread);

/* Takes what waitpid reported as a stop. Returns true when the process ended on the way, with its status. */
bool myst_take_stop(const struct myst_application *application, pid_t pid, int *status);

#endif
