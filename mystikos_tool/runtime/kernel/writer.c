#include "writer.h"

#include "../common/refuse.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORTH_A_THREAD 4096 /* bytes: writing fewer takes no longer than handing them over */
#define WORTH_WAKING (256 << 10) /* bytes of the archive: to be woken for each file takes longer than writing it */

int myst_write_all(int file, const unsigned char *data, size_t size)
{
    while (size > 0)
    {
        ssize_t written = write(file, data, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return -1;
        data += written;
        size -= (size_t)written;
    }
    return 0;
}

int myst_close_written(int file, uint32_t mode)
{
    /* Writing takes the set-id bits away, unless by root of the whole machine. */
    if ((mode & 06000) && fchmod(file, mode & 07777) != 0)
        return -1;
    close(file);
    return 0;
}

/* Refuses to go on after the thread failed: the caller tells it, so that one line is printed and no more. */
static void check(const struct myst_writer *writer)
{
    if (writer->error == 0)
        return;
    errno = writer->error;
    myst_refuse_errno(
        "%s: cannot unpack %s", writer->subject, writer->files[writer->first % MYST_WRITER_FILES].entry.name);
}

static void *write_files(void *context)
{
    struct myst_writer *writer = context;
    pthread_mutex_lock(&writer->lock);
    for (;;)
    {
        writer->sleeping = true;
        while (writer->first == writer->next && !writer->ending)
            pthread_cond_wait(&writer->changed, &writer->lock);
        writer->sleeping = false;
        if (writer->first == writer->next)
            break;
        const int file = writer->files[writer->first % MYST_WRITER_FILES].file;
        const struct myst_entry entry = writer->files[writer->first % MYST_WRITER_FILES].entry;
        pthread_mutex_unlock(&writer->lock);
        const bool done =
            myst_write_all(file, entry.data, entry.size) == 0 && myst_close_written(file, entry.mode) == 0;
        const int error = errno;
        pthread_mutex_lock(&writer->lock);
        if (!done)
        {
            writer->error = error;
            pthread_cond_signal(&writer->changed);
            break;
        }
        writer->bytes -= entry.size;
        if (++writer->first == writer->next)
            pthread_cond_signal(&writer->changed);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

void myst_writer_start(struct myst_writer *writer, const char *subject, bool with_thread)
{
    *writer = (struct myst_writer){
        .subject = subject, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    if (!with_thread)
        return;
    /* Signals are for the thread that goes on to be the application's parent. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    writer->has_thread = pthread_create(&writer->thread, NULL, write_files, writer) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool myst_writer_take(struct myst_writer *writer, int file, const struct myst_entry *entry)
{
    if (!writer->has_thread || entry->size < WORTH_A_THREAD || entry->size > MYST_WRITER_BYTES)
        return false;
    pthread_mutex_lock(&writer->lock);
    check(writer);
    const bool has_room = writer->next - writer->first < MYST_WRITER_FILES &&
                          writer->bytes + entry->size <= MYST_WRITER_BYTES;
    if (has_room)
    {
        writer->files[writer->next % MYST_WRITER_FILES].file = file;
        writer->files[writer->next % MYST_WRITER_FILES].entry = *entry;
        writer->next++;
        writer->bytes += entry->size;
    }
    pthread_mutex_unlock(&writer->lock);
    return has_room;
}

const unsigned char *myst_writer_written(struct myst_writer *writer, const unsigned char *end)
{
    if (!writer->has_thread)
        return end;
    pthread_mutex_lock(&writer->lock);
    if (writer->first != writer->next)
    {
        const char *begin = writer->files[writer->first % MYST_WRITER_FILES].entry.name;
        if (writer->sleeping && end - (const unsigned char *)begin >= WORTH_WAKING)
            pthread_cond_signal(&writer->changed);
        end = (const unsigned char *)begin;
    }
    pthread_mutex_unlock(&writer->lock);
    return end;
}

void myst_writer_wait(struct myst_writer *writer)
{
    if (!writer->has_thread)
        return;
    pthread_mutex_lock(&writer->lock);
    pthread_cond_signal(&writer->changed);
    while (writer->first != writer->next && writer->error == 0)
        pthread_cond_wait(&writer->changed, &writer->lock);
    check(writer);
    pthread_mutex_unlock(&writer->lock);
}

void myst_writer_finish(struct myst_writer *writer)
{
    if (!writer->has_thread)
        return;
    pthread_mutex_lock(&writer->lock);
    writer->ending = true;
    pthread_cond_signal(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    check(writer);
}
