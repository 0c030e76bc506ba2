/* Becomes the application. */
#ifndef MYST_EXECUTE_H
#define MYST_EXECUTE_H

#include "../common/application.h"

/* Sets the limits and the system call filter, whose descriptor goes through `socket` if there is one, and executes the
 * application in place of this process. Says why it cannot. */
__attribute__((noreturn)) void myst_execute(const struct myst_application *application, int socket);

#endif
