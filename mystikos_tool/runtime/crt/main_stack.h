/* The size of the main thread's stack, as musl's pthread_getattr_np finds it: by mremap of each page below the top
 * until one is not mapped. Linux maps the stack as it grows, Mystikos all of it. */
#ifndef MYST_MAIN_STACK_H
#define MYST_MAIN_STACK_H

#include "call.h"

/* Serves such an mremap: -ENOMEM where the stack is, -EFAULT below; or MYST_CONTINUE. */
int64_t myst_serve_main_stack(const struct myst_call *call);

#endif
