/* The system call filter that the application runs under. */
#ifndef MYST_FILTER_H
#define MYST_FILTER_H

#include "../common/application.h"

/* Sets the filter for this process and all that it will start. Returns the descriptor that tells of the calls
 * that are not decided by the filter alone, for myst_seccomp_notify_answer, or -1 when there are none. */
int myst_set_filter(const struct myst_application *application);

#endif
