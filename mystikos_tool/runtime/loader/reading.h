/* Puts what the package's sections hold into the enclave's memory while it is measured. Large sections
 * are read by a thread of their own: reading takes its time, and hashing more. */
#ifndef MYST_READING_H
#define MYST_READING_H

#include <pthread.h>

#include "memory.h"

struct myst_reading
{
    const struct myst_layout *layout;
    const struct myst_memory *memory;
    int has_thread;
    pthread_t thread;

    /* Under the lock while there is a thread. */
    pthread_mutex_t lock;
    pthread_cond_t progress;
    uint64_t complete; /* sections are complete up to this offset of the enclave */
    int result;
    struct myst_error error;
};

/* Starts to read, into memory that myst_memory_place made. Call myst_reading_finish in any case. */
void myst_reading_start(
    struct myst_reading *reading, const struct myst_layout *layout, const struct myst_memory *memory);

/* Waits until the sections are complete up to an offset of the enclave, at least; returns that, or 0
 * when reading failed. */
uint64_t myst_reading_wait(struct myst_reading *reading, uint64_t offset);

/* Waits for the end. */
int myst_reading_finish(struct myst_reading *reading, struct myst_error *error);

#endif
