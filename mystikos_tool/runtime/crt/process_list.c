#include "process_list.h"

#include "../common/sizes.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define KEPT_MS 5

struct entry /* of getdents64 */
{
    uint64_t inode, next;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* Where the numbers begin: what comes before them in /proc is many times as much, and stays. */
static off_t begin;

static int open_list(const struct myst_application *application)
{
    static int list = -1;
    if (list < 0)
        list = openat(application->proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return list < 0 || lseek(list, begin, SEEK_SET) < 0 ? -1 : list;
}

int myst_list_processes(const struct myst_application *application, pid_t *processes, size_t room)
{
    static char entries[32 << 10];
    const int list = open_list(application);
    const pid_t own = getpid();
    size_t count = 0;
    bool is_before = true;
    long size = -1;
    while (list >= 0 && (size = syscall(SYS_getdents64, list, entries, sizeof entries)) > 0)
        for (long at = 0; at < size;)
        {
            const struct entry *entry = (const struct entry *)(const void *)(entries + at);
            const pid_t process = (pid_t)atoi(entry->name);
            is_before &= process == 0;
            if (is_before)
                begin = (off_t)entry->next;
            if (process > 0 && process != own && count < room)
                processes[count++] = process;
            at += entry->size;
        }
    return size < 0 ? -1 : (int)count;
}

static int64_t known_until; /* milliseconds */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

int myst_known_processes(const struct myst_application *application, const pid_t **processes)
{
    static pid_t known[2 * MYST_MAX_THREADS];
    static int count;
    const int64_t moment = now();
    if (moment >= known_until)
    {
        count = myst_list_processes(application, known, MYST_COUNT(known));
        known_until = moment + KEPT_MS;
    }
    *processes = known;
    return count;
}

void myst_forget_processes(void)
{
    known_until = 0;
}
