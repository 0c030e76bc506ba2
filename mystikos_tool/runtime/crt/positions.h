/* Positions in files of the enclave's memory, and how large those become: Mystikos knows no holes, and copies a file
 * that outgrows its room. */
#ifndef MYST_POSITIONS_H
#define MYST_POSITIONS_H

#include "call.h"

/* A position that is looked at before it is taken, and a write that is; both in bytes. What is less costs more to look
 * at than it is worth. */
#define MYST_FAR (1u << 20)
#define MYST_LARGE_WRITE (1u << 20)

/* True where a file of the enclave's memory cannot have so many bytes. */
bool myst_is_too_large(const struct myst_call *call, int file, int64_t size);

/* Serves lseek, large writes and copy_file_range: the result of the call, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_positions(const struct myst_call *call);

#endif
