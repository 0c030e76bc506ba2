/* Puts what the package's sections hold into the enclave's memory while it is measured. Large sections
 * are read by a thread of their own; whoever has to wait for it reads the next chunk meanwhile, for
 * memory that is touched for the first time can take longer than hashing it. */
#ifndef MYST_READING_H
#define MYST_READING_H

#include "memory.h"

#include <pthread.h>

#define MYST_NOWHERE UINT64_MAX

enum myst_reader
{
    MYST_READER_CALLER,
    MYST_READER_THREAD,
    MYST_READERS
};

struct myst_reading
{
    const struct myst_layout *layout;
    const struct myst_memory *memory;
    int has_thread;
    pthread_t thread;

    /* Under the lock while there is a thread. */
    pthread_mutex_t lock;
    pthread_cond_t progress;
    size_t part; /* of the sections, and `at` bytes from its start: what nobody has begun to read */
    uint64_t at;
    uint64_t busy[MYST_READERS]; /* offset in the enclave of what each reads, or MYST_NOWHERE */
    int result;
    struct myst_error error;
};

/* Begins, in memory that myst_memory_place made. Call myst_reading_finish in any case. */
void myst_reading_start(struct myst_reading *reading, const struct myst_layout *layout,
                        const struct myst_memory *memory);

/* Reads and waits until the sections are complete up to an offset of the enclave, at least; returns up to
 * which one they are, or 0 when reading failed. */
uint64_t myst_reading_wait(struct myst_reading *reading, uint64_t offset);

/* Waits for the end. */
int myst_reading_finish(struct myst_reading *reading, struct myst_error *error);

#endif
