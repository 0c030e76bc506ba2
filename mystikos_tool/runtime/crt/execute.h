/* Becomes the application. */
#ifndef MYST_EXECUTE_H
#define MYST_EXECUTE_H

#include "../common/application.h"

/* Sets the limits and executes the application in place of this process. Says why it can't. */
__attribute__((noreturn)) void myst_execute(const struct myst_application *application);

#endif
