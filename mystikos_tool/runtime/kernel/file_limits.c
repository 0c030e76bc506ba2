#include "file_limits.h"

#include "../common/error.h"
#include "../common/file_limits.h"
#include "../common/sizes.h"
#include "helper.h"
#include "privileges.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MAX_SYSTEMS 34 /* the root's, /dev/shm, and those of all mounts */
#define CHANNEL 0      /* the process's descriptors: this one, and those of the file systems behind it */

/* include/uapi/linux/mount.h (Linux 5.2) */
#define FSCONFIG 431
#define FSPICK 433
#define PICK_ITSELF 9u /* FSPICK_CLOEXEC | FSPICK_EMPTY_PATH */
#define SET_STRING 1u
#define RECONFIGURE 7u

struct file_system
{
    int root;
    uint64_t limit, used; /* bytes */
};

/* In the order of their descriptors. */
static struct file_system systems[MAX_SYSTEMS];
static size_t system_count;

void myst_limit_files_at(const char *path)
{
    const int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        myst_refuse_errno("cannot open a file system in memory");
    if (system_count == MAX_SYSTEMS)
        myst_refuse("more than %d file systems are in memory", MAX_SYSTEMS);
    size_t at = system_count++;
    for (; at > 0 && systems[at - 1].root > root; at--)
        systems[at] = systems[at - 1];
    systems[at] = (struct file_system){.root = root};
}

static uint64_t look_at_files(void)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < system_count; i++)
    {
        struct statfs status;
        if (fstatfs(systems[i].root, &status) == 0)
            systems[i].used = (status.f_blocks - status.f_bfree) * (uint64_t)status.f_bsize;
        bytes += systems[i].used;
    }
    return bytes;
}

/* Fails where the file system has grown meanwhile: the next time will do. */
static void limit(struct file_system *system, uint64_t bytes)
{
    char size[24];
    bytes = bytes < MYST_PAGE ? MYST_PAGE : bytes - bytes % MYST_PAGE; /* 0 would be no limit, for good */
    if (bytes == system->limit)
        return;
    const int context = (int)syscall(FSPICK, system->root, "", PICK_ITSELF);
    if (context < 0)
        return;
    snprintf(size, sizeof size, "%llu", (unsigned long long)bytes);
    const bool limited = syscall(FSCONFIG, context, SET_STRING, "size", size, 0) == 0 &&
                         syscall(FSCONFIG, context, RECONFIGURE, NULL, NULL, 0) == 0;
    system->limit = limited ? bytes : 0;
    close(context);
}

__attribute__((noreturn)) static void serve(uint64_t budget)
{
    myst_bytes_of_processes processes;
    const uint64_t at_first = look_at_files();
    while (read(CHANNEL, &processes, sizeof processes) == sizeof processes)
    {
        const uint64_t now = look_at_files(), added = now > at_first ? now - at_first : 0;
        const uint64_t left = added < budget ? budget - added : 0;
        const uint64_t room = processes < left ? left - processes : 0;
        for (size_t i = 0; i < system_count; i++)
            limit(&systems[i], systems[i].used + room);
        const myst_bytes_of_files answer = added;
        if (write(CHANNEL, &answer, sizeof answer) != sizeof answer)
            break;
    }
    _exit(0);
}

static void become_limiter(int channel, void *budget)
{
    static const unsigned needed[] = {SYS_read, SYS_write, SYS_fstatfs,         FSPICK,
                                      FSCONFIG, SYS_close, SYS_restart_syscall, SYS_exit_group};
    int kept[1 + MAX_SYSTEMS] = {channel};
    for (size_t i = 0; i < system_count; i++)
    {
        kept[1 + i] = systems[i].root;
        systems[i].root = CHANNEL + 1 + (int)i;
    }
    myst_keep_descriptors(kept, 1 + system_count);
    myst_drop_privileges_but(CAP_SYS_ADMIN);
    myst_allow_calls_only(needed, MYST_COUNT(needed));
    serve(*(const uint64_t *)budget);
}

int myst_start_file_limits(uint64_t bytes)
{
    const int channel = myst_start_helper_with_socket(SOCK_STREAM, become_limiter, &bytes);
    while (system_count > 0)
        close(systems[--system_count].root);
    return channel;
}
