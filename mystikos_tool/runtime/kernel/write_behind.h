/* Writes behind: a second thread writes the contents of files while the caller creates the next ones. */
#ifndef MYST_WRITE_BEHIND_H
#define MYST_WRITE_BEHIND_H

#include "archive.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define MYST_WRITE_BEHIND_FILES 32
#define MYST_WRITE_BEHIND_BYTES (4ull << 20) /* not yet written at any time */

struct myst_unwritten
{
    int file;
    struct myst_entry entry;
};

struct myst_write_behind
{
    const char *subject; /* what messages begin with */
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct myst_unwritten files[MYST_WRITE_BEHIND_FILES]; /* from `first` up to `next`, modulo their number */
    size_t first, next, bytes;
    bool sleeping, ending;
    int error; /* errno of the thread, which then ends; of the file at `first` */
};

/* Without a thread, which may also be because there can be none, everything is left to the caller. */
void myst_write_behind_start(struct myst_write_behind *behind, const char *subject, bool with_thread);

/* Takes over a file that is open for writing: it gets the entry's content and is closed. Returns false
 * when the caller has to do that: the file is small or too large, or there are enough of them. */
bool myst_write_behind_take(struct myst_write_behind *behind, int file, const struct myst_entry *entry);

/* Returns where in memory the first entry begins that is not written yet, `end` where there is none. To be
 * called for each entry, with the end of what was read of the archive: the thread is woken when it is behind. */
const unsigned char *myst_write_behind_written(struct myst_write_behind *behind, const unsigned char *end);

/* Waits until everything is written. */
void myst_write_behind_wait(struct myst_write_behind *behind);

void myst_write_behind_finish(struct myst_write_behind *behind);

/* Gives a file that was written its set-id bits, and closes it; returns -1, with errno, where that fails. */
int myst_close_written(int file, uint32_t mode);

#endif
