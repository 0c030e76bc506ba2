/* Memory without a file that processes share with their children (MAP_SHARED and MAP_ANONYMOUS): it stays as long as
 * one of them maps some of it, and counts once. */
#ifndef MYST_SHARED_MEMORY_H
#define MYST_SHARED_MEMORY_H

#include "call.h"

/* True when the call of mmap makes such memory. */
bool myst_makes_shared_memory(const struct myst_call *call);

/* The process of the call is about to make some. */
void myst_expect_shared_memory(const struct myst_call *call);

/* True when some process has made some, and has to be looked at. */
bool myst_is_memory_shared(void);

/* Between these two each process is looked at: the bytes that it maps. */
void myst_begin_shared_memory(void);
uint64_t myst_measure_shared_memory(int proc, pid_t process);

/* What was not met is gone. Returns the bytes of all that is left. */
uint64_t myst_end_shared_memory(void);

#endif
