#include "positions.h"

#include "disguise.h"
#include "redirect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A file that grows is copied to one with twice the room: so much of MemorySize is the largest that still fits beside
 * its copy. */
#define LARGEST_PART 4
#define LARGEST_COPY (1u << 20) /* of a file into itself at once */

static bool is_in_memory(const struct myst_call *call, int file, struct stat *status)
{
    return call->application->isolated && fstat(file, status) == 0 && myst_is_in_memory(status);
}

bool myst_is_too_large(const struct myst_call *call, int file, int64_t size)
{
    struct stat status;
    return is_in_memory(call, file, &status) && S_ISREG(status.st_mode) && size >= 0 &&
           (uint64_t)size > call->application->address_space;
}

/* A descriptor of this process for the caller's, where that is a file or directory in the enclave's memory; else -1. */
static int take(const struct myst_call *call, int argument, struct stat *status)
{
    const int file = myst_call_take_descriptor(call, (int)myst_call_argument(call, argument));
    if (file < 0)
        return -1;
    if (is_in_memory(call, file, status) && (S_ISREG(status->st_mode) || S_ISDIR(status->st_mode)))
        return file;
    close(file);
    return -1;
}

/* Where a call of lseek leads. */
static int64_t goal_of(const struct myst_call *call, int file, const struct stat *status)
{
    const int64_t offset = (int64_t)myst_call_argument(call, 1);
    switch ((int)myst_call_argument(call, 2))
    {
    case SEEK_SET:
        return offset;
    case SEEK_CUR:
        return lseek(file, 0, SEEK_CUR) + offset;
    default:
        return status->st_size + offset;
    }
}

/* The position is the caller's as well. The end of a directory is its beginning. */
static int64_t move(const struct myst_call *call)
{
    struct stat status;
    const int whence = (int)myst_call_argument(call, 2), file = take(call, 0, &status);
    int64_t result = MYST_CONTINUE;
    if (file < 0)
        return result;
    if (S_ISDIR(status.st_mode) && whence == SEEK_END)
        result = myst_call_argument(call, 1) ? -EINVAL : 0;
    else if (S_ISREG(status.st_mode) && goal_of(call, file, &status) > status.st_size)
        result = -EINVAL;
    close(file);
    return result;
}

static uint64_t free_memory(int file)
{
    struct statfs status;
    return fstatfs(file, &status) == 0 ? (uint64_t)status.f_bfree * (uint64_t)status.f_bsize : UINT64_MAX;
}

static int64_t write_much(const struct myst_call *call)
{
    struct stat status;
    const bool at = call->notification.data.nr == SYS_pwrite64;
    const uint64_t count = myst_call_argument(call, 2);
    const int file = take(call, 0, &status);
    if (file < 0)
        return MYST_CONTINUE;
    const int64_t begin = at                                ? (int64_t)myst_call_argument(call, 3)
                          : fcntl(file, F_GETFL) & O_APPEND ? status.st_size
                                                            : lseek(file, 0, SEEK_CUR);
    const uint64_t end = (uint64_t)begin + count;
    const bool grows = begin >= 0 && S_ISREG(status.st_mode) && end > (uint64_t)status.st_size;
    const bool fits =
        end <= call->application->address_space / LARGEST_PART && end - (uint64_t)status.st_size <= free_memory(file);
    close(file);
    return grows && !fits ? -ENOMEM : MYST_CONTINUE;
}

/* Where a copy begins: at the offset that the argument leads to, or at the descriptor's position. */
static int64_t read_offset(const struct myst_call *call, int file, int argument, int64_t *offset)
{
    if (myst_call_argument(call, argument))
        return myst_call_read(call, myst_call_argument(call, argument), offset, sizeof *offset);
    *offset = lseek(file, 0, SEEK_CUR);
    return *offset < 0 ? -errno : 0;
}

static void advance(const struct myst_call *call, int file, int argument, int64_t offset)
{
    if (myst_call_argument(call, argument))
        myst_call_write(call, myst_call_argument(call, argument), &offset, sizeof offset);
    else
        lseek(file, offset, SEEK_SET);
}

static int64_t copy_within(const struct myst_call *call, int from, int to)
{
    int64_t begin, end;
    const uint64_t asked = myst_call_argument(call, 4), size = asked < LARGEST_COPY ? asked : LARGEST_COPY;
    if (read_offset(call, from, 1, &begin) != 0 || read_offset(call, to, 3, &end) != 0)
        return MYST_CONTINUE;
    char *content = malloc(size);
    if (!content)
        return -ENOMEM;
    ssize_t copied = pread(from, content, size, begin);
    if (copied > 0)
        copied = pwrite(to, content, (size_t)copied, end);
    const int64_t result = copied < 0 ? -errno : copied;
    free(content);
    if (copied > 0)
    {
        advance(call, from, 1, begin + copied);
        advance(call, to, 3, end + copied);
    }
    return result;
}

/* Parts of one file may overlap. */
static int64_t copy(const struct myst_call *call)
{
    struct stat source, target;
    int64_t result = MYST_CONTINUE;
    const int from = take(call, 0, &source), to = from < 0 ? -1 : take(call, 2, &target);
    if (to >= 0 && source.st_dev == target.st_dev && source.st_ino == target.st_ino && myst_call_argument(call, 4) &&
        myst_call_argument(call, 5) == 0)
        result = copy_within(call, from, to);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return result;
}

/* Flags have no effect. */
static int64_t leave_flags_out(const struct myst_call *call, long number)
{
    const __u64 *a = call->notification.data.args;
    return myst_redirect(call, number, (const uint64_t[6]){a[0], a[1], a[2], a[3], a[4]});
}

int64_t myst_serve_positions(const struct myst_call *call)
{
    switch (call->notification.data.nr)
    {
    case SYS_lseek:
        return move(call);
    case SYS_write:
    case SYS_pwrite64:
        return write_much(call);
    case SYS_copy_file_range:
        return copy(call);
    case SYS_preadv2:
        return leave_flags_out(call, SYS_preadv);
    case SYS_pwritev2:
        return leave_flags_out(call, SYS_pwritev);
    default:
        return MYST_CONTINUE;
    }
}
