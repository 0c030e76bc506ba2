#include "write_behind.h"

#include "../common/error.h"
#include "write.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORTH_A_THREAD 4096      /* bytes: writing fewer takes no longer than handing them over */
#define WORTH_WAKING (256 << 10) /* bytes of the archive: to be woken for each file takes longer than writing it */

int myst_close_written(int file, uint32_t mode)
{
    /* Writing takes the set-id bits away, unless by root of the whole machine. */
    if ((mode & 06000) && fchmod(file, mode & 07777) != 0)
        return -1;
    close(file);
    return 0;
}

/* The file that is to be written next. */
static const struct myst_unwritten *first_of(const struct myst_write_behind *behind)
{
    return &behind->files[behind->first % MYST_WRITE_BEHIND_FILES];
}

/* Refuses to go on after the thread failed: the caller tells it, so that one line is printed and no more. */
static void check(const struct myst_write_behind *behind)
{
    if (behind->error == 0)
        return;
    errno = behind->error;
    myst_refuse_errno("%s: cannot unpack %s", behind->subject, first_of(behind)->entry.name);
}

static void *write_files(void *context)
{
    struct myst_write_behind *behind = context;
    pthread_mutex_lock(&behind->lock);
    for (;;)
    {
        behind->sleeping = true;
        while (behind->first == behind->next && !behind->ending)
            pthread_cond_wait(&behind->changed, &behind->lock);
        behind->sleeping = false;
        if (behind->first == behind->next)
            break;
        const struct myst_unwritten next = *first_of(behind);
        pthread_mutex_unlock(&behind->lock);
        const bool done = myst_write_all(next.file, next.entry.data, next.entry.size) == 0 &&
                          myst_close_written(next.file, next.entry.mode) == 0;
        const int error = errno;
        pthread_mutex_lock(&behind->lock);
        if (!done)
        {
            behind->error = error;
            pthread_cond_signal(&behind->changed);
            break;
        }
        behind->bytes -= next.entry.size;
        if (++behind->first == behind->next)
            pthread_cond_signal(&behind->changed);
    }
    pthread_mutex_unlock(&behind->lock);
    return NULL;
}

void myst_write_behind_start(struct myst_write_behind *behind, const char *subject, bool with_thread)
{
    *behind = (struct myst_write_behind){
        .subject = subject, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    if (!with_thread)
        return;
    /* Signals are for the thread that goes on to be the application's parent. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    behind->has_thread = pthread_create(&behind->thread, NULL, write_files, behind) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool myst_write_behind_take(struct myst_write_behind *behind, int file, const struct myst_entry *entry)
{
    if (!behind->has_thread || entry->size < WORTH_A_THREAD || entry->size > MYST_WRITE_BEHIND_BYTES)
        return false;
    pthread_mutex_lock(&behind->lock);
    check(behind);
    const bool has_room = behind->next - behind->first < MYST_WRITE_BEHIND_FILES &&
                          behind->bytes + entry->size <= MYST_WRITE_BEHIND_BYTES;
    if (has_room)
    {
        behind->files[behind->next++ % MYST_WRITE_BEHIND_FILES] = (struct myst_unwritten){file, *entry};
        behind->bytes += entry->size;
    }
    pthread_mutex_unlock(&behind->lock);
    return has_room;
}

const unsigned char *myst_write_behind_written(struct myst_write_behind *behind, const unsigned char *end)
{
    if (!behind->has_thread)
        return end;
    pthread_mutex_lock(&behind->lock);
    if (behind->first != behind->next)
    {
        const char *begin = first_of(behind)->entry.name;
        if (behind->sleeping && end - (const unsigned char *)begin >= WORTH_WAKING)
            pthread_cond_signal(&behind->changed);
        end = (const unsigned char *)begin;
    }
    pthread_mutex_unlock(&behind->lock);
    return end;
}

void myst_write_behind_wait(struct myst_write_behind *behind)
{
    if (!behind->has_thread)
        return;
    pthread_mutex_lock(&behind->lock);
    pthread_cond_signal(&behind->changed);
    while (behind->first != behind->next && behind->error == 0)
        pthread_cond_wait(&behind->changed, &behind->lock);
    check(behind);
    pthread_mutex_unlock(&behind->lock);
}

void myst_write_behind_finish(struct myst_write_behind *behind)
{
    if (!behind->has_thread)
        return;
    pthread_mutex_lock(&behind->lock);
    behind->ending = true;
    pthread_cond_signal(&behind->changed);
    pthread_mutex_unlock(&behind->lock);
    pthread_join(behind->thread, NULL);
    check(behind);
}
