/* One budget of memory for all processes and files of the sandbox: what the others and the files take is out of a
 * process's reach. Process 1 looks at them from time to time and whenever a process or program begins. */
#ifndef MYST_BUDGET_H
#define MYST_BUDGET_H

#include "call.h"

/* Bytes of a mapping before which process 1 takes a look: what it gives must not have been taken meanwhile. */
#define MYST_LARGE_MAPPING (16u << 20)

/* Called once, before the application runs. */
void myst_budget_begin(const struct myst_application *application);

/* Milliseconds until the next look, for poll. */
int myst_budget_timeout(void);

/* Takes a look when it is time to. */
void myst_budget_look(const struct myst_application *application);

/* A look will be taken soon: something happens. */
void myst_budget_expect(void);

/* The caller is about to execute a program. */
void myst_budget_note_program(const struct myst_call *call);

/* Watches clone, and mmap of what becomes the stack of a thread, each of which takes memory that the program does not
 * see, and of what is large: MYST_CONTINUE always. */
int64_t myst_serve_budget(const struct myst_call *call);

#endif
