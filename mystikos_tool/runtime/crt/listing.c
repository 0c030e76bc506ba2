#include "listing.h"

#include "../common/linux_version.h"
#include "disguise.h"
#include "own_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TOLD_AT_ONCE 128   /* entries */
#define MAX_ENTRIES 65536u /* of a directory; of a larger one Linux tells */

/* An entry as Mystikos tells it, all of one size: struct dirent of its C library. */
struct told
{
    uint64_t inode;
    int64_t next; /* bytes: a multiple of the size */
    uint16_t size;
    uint8_t type;
    char name[NAME_MAX + 6];
};

/* An entry as getdents64 of Linux tells it (getdents(2)). */
struct entry
{
    uint64_t inode, next;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* The directory that was read last: all that it has, the oldest first; nothing where it has too many. */
static struct
{
    uint64_t device, inode;
    struct told *entries;
    size_t count, room;
    int changes; /* tells of what comes and goes (inotify(7)); -1: nothing does */
} list = {.changes = -1};

static bool add(const struct entry *entry)
{
    if (list.count == MAX_ENTRIES)
        return false;
    if (list.count == list.room)
    {
        const size_t room = list.room ? 2 * list.room : 64;
        struct told *larger = realloc(list.entries, room * sizeof *larger);
        if (!larger)
            return false;
        list.entries = larger;
        list.room = room;
    }
    struct told *told = &list.entries[list.count++];
    memset(told, 0, sizeof *told);
    told->inode = entry->inode;
    told->size = sizeof *told;
    told->type = entry->type;
    strncpy(told->name, entry->name, NAME_MAX);
    return true;
}

static bool read_all(int directory)
{
    static char content[64 << 10];
    long size;
    list.count = 0;
    while ((size = syscall(SYS_getdents64, directory, content, sizeof content)) > 0)
        for (long at = 0; at < size; at += ((const struct entry *)(const void *)(content + at))->size)
            if (!add((const struct entry *)(const void *)(content + at)))
                return false;
    return size == 0;
}

/* Linux tells the newest first, behind `.` and `..`, but for some versions. */
static void put_in_order(void)
{
    const bool is_oldest_first = myst_linux_is_at_least(6, 6) && !myst_linux_is_at_least(6, 14);
    for (size_t i = 2, j = list.count; !is_oldest_first && i + 1 < j; i++)
    {
        const struct told last = list.entries[--j];
        list.entries[j] = list.entries[i];
        list.entries[i] = last;
    }
    for (size_t i = 0; i < list.count; i++)
        list.entries[i].next = (int64_t)((i + 1) * sizeof *list.entries);
}

static void watch(int directory)
{
    char path[MYST_OWN_PATH];
    if (list.changes >= 0)
        close(list.changes);
    list.changes = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    myst_own_path(directory, path);
    if (list.changes < 0 || inotify_add_watch(list.changes, path, IN_CREATE | IN_DELETE | IN_MOVE) >= 0)
        return;
    close(list.changes);
    list.changes = -1;
}

static bool is_known(const struct stat *status)
{
    char change[sizeof(struct inotify_event) + NAME_MAX + 1];
    return list.changes >= 0 && list.device == status->st_dev && list.inode == status->st_ino &&
           read(list.changes, change, sizeof change) < 0 && errno == EAGAIN;
}

/* The watch begins before the directory is read: no change is missed. */
static bool learn(int directory)
{
    struct stat status;
    if (fstat(directory, &status) != 0)
        return false;
    if (is_known(&status))
        return list.count > 0;
    const int own = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (own < 0)
        return false;
    list.device = status.st_dev;
    list.inode = status.st_ino;
    watch(own);
    const bool result = read_all(own) && list.count >= 2;
    if (result)
        put_in_order();
    else
        list.count = 0;
    close(own);
    return result;
}

/* The position of the descriptor is the caller's as well. */
static int64_t tell(const struct myst_call *call, int directory)
{
    const off_t position = lseek(directory, 0, SEEK_CUR);
    if (position < 0 || !learn(directory))
        return MYST_CONTINUE;
    const size_t size = sizeof *list.entries, room = (size_t)(myst_call_argument(call, 2) / size),
                 at = (size_t)position / size, begin = at < list.count ? at : list.count, rest = list.count - begin;
    size_t count = rest < room ? rest : room;
    count = count < TOLD_AT_ONCE ? count : TOLD_AT_ONCE;
    const int64_t result =
        count ? myst_call_write(call, myst_call_argument(call, 1), list.entries + begin, count * size) : 0;
    lseek(directory, (off_t)((begin + count) * size), SEEK_SET);
    return result != 0 ? result : (int64_t)(count * size);
}

/* A file is taken for a list of entries, and has to be one. */
static int64_t read_file(const struct myst_call *call, int file)
{
    struct stat status;
    if (fstat(file, &status) != 0)
        return MYST_CONTINUE;
    if (!myst_is_in_file_system(call, &status))
        return -EBADF;
    if (!S_ISREG(status.st_mode) || !myst_is_in_tmpfs(&status))
        return MYST_CONTINUE;
    const bool is_at_end = lseek(file, 0, SEEK_CUR) >= status.st_size;
    return is_at_end || myst_call_argument(call, 2) < sizeof(struct told) ? 0 : MYST_CRASHES;
}

int64_t myst_serve_listing(const struct myst_call *call)
{
    if (call->notification.data.nr != SYS_getdents64 || !call->application->isolated)
        return MYST_CONTINUE;
    const int directory = myst_call_take_descriptor(call, (int)myst_call_argument(call, 0));
    if (directory < 0)
        return MYST_CONTINUE;
    const int64_t result = myst_is_directory_in_memory(directory) ? tell(call, directory) : read_file(call, directory);
    close(directory);
    return result;
}
