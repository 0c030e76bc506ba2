#include "proc_files.h"

#include "../common/proc_files.h"
#include "../common/sizes.h"
#include "executables.h"
#include "proc_content.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BLOCK_SIZE 512
#define LISTING_SIZE (32u << 10)
#define TERMINAL_MAJOR 136u /* of pseudo terminals (Documentation/admin-guide/devices.txt) */
#define TERMINAL_MAJORS_END 144u

void myst_show_process(pid_t process)
{
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/%d", (int)process);
    if (mkdir(path, 0700) != 0)
        return;
    for (size_t i = 0; i < MYST_COUNT(myst_process_files); i++)
    {
        snprintf(path, sizeof path, "/proc/%d/%s", (int)process, myst_process_files[i].name);
        snprintf(target, sizeof target, "/proc/" MYST_LINUX_PROC "/%d/%s", (int)process, myst_process_files[i].name);
        const int result = symlink(target, path);
        (void)result; /* where /proc is full, the file is not there */
    }
}

void myst_hide_process(pid_t process)
{
    char path[64];
    for (size_t i = 0; i < MYST_COUNT(myst_process_files); i++)
    {
        snprintf(path, sizeof path, "/proc/%d/%s", (int)process, myst_process_files[i].name);
        unlink(path);
    }
    snprintf(path, sizeof path, "/proc/%d", (int)process);
    rmdir(path);
    myst_forget_executable(process);
}

/* A path of /proc that names a process, or what it has there. */
struct named
{
    pid_t process;
    bool is_self;
    const char *rest; /* "" or the name of a file */
};

static bool parse(const struct myst_call *call, const char *path, struct named *named)
{
    char *end;
    if (strncmp(path, "/proc/", 6) != 0)
        return false;
    path += 6;
    named->is_self = strncmp(path, "self", 4) == 0;
    named->process = named->is_self ? myst_call_process(call) : (pid_t)strtol(path, &end, 10);
    end = named->is_self ? (char *)(uintptr_t)(path + 4) : end;
    if (named->process <= 1 || (*end && *end != '/'))
        return false;
    named->rest = *end ? end + 1 : end;
    return true;
}

/* The number of a terminal of the host, which has no name inside; -1 for everything else. */
static int host_terminal(const struct stat *status)
{
    struct stat inside;
    const int number = (int)(major(status->st_rdev) - TERMINAL_MAJOR) * 256 + (int)minor(status->st_rdev);
    const bool is_terminal = S_ISCHR(status->st_mode) && major(status->st_rdev) >= TERMINAL_MAJOR &&
                             major(status->st_rdev) < TERMINAL_MAJORS_END;
    return is_terminal && stat("/dev/pts", &inside) == 0 && inside.st_dev != status->st_dev ? number : -1;
}

static int terminal_of(const struct myst_call *call, int descriptor, struct stat *status)
{
    const int64_t file = myst_call_open_descriptor(call, descriptor);
    const int number = file >= 0 && fstat((int)file, status) == 0 ? host_terminal(status) : -1;
    if (file >= 0)
        close((int)file);
    return number;
}

/* The name that ttyname (3) finds for a terminal that the application was given leads to it, as outside. */
static int64_t examine_terminal(const struct myst_call *call, const char *path, int to_argument)
{
    struct stat status;
    int number;
    char end;
    if (strncmp(path, "/dev/pts/", 9) != 0 || sscanf(path, "/dev/pts/%d%c", &number, &end) != 1 ||
        access(path, F_OK) == 0)
        return MYST_CONTINUE;
    for (int i = 0; i < 3; i++)
        if (terminal_of(call, i, &status) == number)
            return myst_call_write(call, myst_call_argument(call, to_argument), &status, sizeof status);
    return MYST_CONTINUE;
}

static mode_t mode_of(const char *name)
{
    for (size_t i = 0; i < MYST_COUNT(myst_process_files); i++)
        if (strcmp(name, myst_process_files[i].name) == 0)
            return myst_process_files[i].mode;
    return 0;
}

static bool is_there(const struct myst_call *call, pid_t process)
{
    char name[16];
    snprintf(name, sizeof name, "%d", (int)process);
    return faccessat(call->application->proc, name, F_OK, 0) == 0;
}

static int64_t tell(const struct myst_call *call, const struct named *named, mode_t mode, int to_argument)
{
    const struct stat status = {
        .st_ino = (ino_t)named->process << 8 | mode % 251, .st_nlink = 1, .st_mode = mode, .st_blksize = BLOCK_SIZE};
    if (!is_there(call, named->process))
        return -ENOENT;
    return myst_call_write(call, myst_call_argument(call, to_argument), &status, sizeof status);
}

static int64_t read_path(const struct myst_call *call, int argument, char *path, struct named *named)
{
    *path = 0;
    if (myst_call_read_path(call, myst_call_argument(call, argument), path) != 0 || !parse(call, path, named))
        return MYST_CONTINUE;
    return 0;
}

static int64_t examine(const struct myst_call *call, int path_argument, bool follows)
{
    static char path[PATH_MAX];
    struct named named;
    if (read_path(call, path_argument, path, &named) != 0)
        return examine_terminal(call, path, path_argument + 1);
    if (!*named.rest)
        return tell(call, &named, named.is_self && !follows ? S_IFLNK | 0777 : S_IFDIR | 01411, path_argument + 1);
    const mode_t mode = mode_of(named.rest);
    if (!mode || (S_ISLNK(mode) && follows))
        return MYST_CONTINUE;
    return tell(call, &named, mode, path_argument + 1);
}

static int64_t give_link(const struct myst_call *call, int path_argument, const char *target, size_t size)
{
    const uint64_t room = myst_call_argument(call, path_argument + 2), given = size < room ? size : room;
    const int64_t result = myst_call_write(call, myst_call_argument(call, path_argument + 1), target, given);
    return result != 0 ? result : (int64_t)given;
}

static int64_t read_link(const struct myst_call *call, int path_argument)
{
    static char path[PATH_MAX];
    struct named named;
    char name[32];
    if (read_path(call, path_argument, path, &named) != 0 || !myst_call_argument(call, path_argument + 2))
        return MYST_CONTINUE;
    if (!*named.rest)
    {
        const int size = snprintf(path, sizeof path, "/proc/%d", (int)named.process);
        return named.is_self ? give_link(call, path_argument, path, (size_t)size) : -EINVAL;
    }
    int descriptor;
    char end;
    struct stat status;
    if (named.is_self && sscanf(named.rest, "fd/%d%c", &descriptor, &end) == 1)
    {
        const int terminal = terminal_of(call, descriptor, &status);
        const int size = snprintf(path, sizeof path, "/dev/pts/%d", terminal);
        return terminal >= 0 ? give_link(call, path_argument, path, (size_t)size) : MYST_CONTINUE;
    }
    if (strcmp(named.rest, "exe") != 0)
        return mode_of(named.rest) ? -EINVAL : MYST_CONTINUE;
    const char *executable = myst_executable_of(call->application, named.process);
    if (executable)
        return give_link(call, path_argument, executable, strlen(executable));
    snprintf(name, sizeof name, "%d/exe", (int)named.process);
    const ssize_t size = readlinkat(call->application->proc, name, path, sizeof path);
    return size < 0 ? -errno : give_link(call, path_argument, path, (size_t)size);
}

/* What is left out of the listing of a directory that has this path; an empty name ends the list. */
static const char *const *left_out_of(const char *path)
{
    static const char *const of_proc[] = {MYST_LINUX_PROC, NULL}, *const of_terminals[] = {"ptmx", NULL},
                             *const of_descriptors[] = {".", "..", "0", "1", "2", NULL};
    const size_t length = strlen(path);
    if (strcmp(path, "/proc") == 0)
        return of_proc;
    if (strcmp(path, "/dev/pts") == 0)
        return of_terminals;
    const bool is_of_process = strncmp(path, "/proc/" MYST_LINUX_PROC "/", 7 + sizeof MYST_LINUX_PROC - 1) == 0;
    return is_of_process && length > 3 && strcmp(path + length - 3, "/fd") == 0 ? of_descriptors : NULL;
}

static bool has_name(const char *const *names, const char *name)
{
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

struct entry /* of getdents64 */
{
    uint64_t inode, next;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* Moves the entries that stay together; their size. */
static size_t leave_out(char *listing, size_t size, const char *const *names)
{
    size_t kept = 0;
    for (size_t at = 0; at < size;)
    {
        const struct entry *entry = (const struct entry *)(const void *)(listing + at);
        const size_t entry_size = entry->size;
        at += entry_size;
        if (has_name(names, entry->name))
            continue;
        memmove(listing + kept, entry, entry_size);
        kept += entry_size;
    }
    return kept;
}

static int64_t list(const struct myst_call *call)
{
    static char path[PATH_MAX], listing[LISTING_SIZE];
    char link[32];
    const uint64_t room = myst_call_argument(call, 2);
    snprintf(link, sizeof link, "%d/fd/%d", (int)myst_call_thread(call), (int)myst_call_argument(call, 0));
    const ssize_t length = readlinkat(call->application->proc, link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    const char *const *names = left_out_of(path);
    const int directory = names ? myst_call_take_descriptor(call, (int)myst_call_argument(call, 0)) : -1;
    if (directory < 0)
        return MYST_CONTINUE;
    long size;
    size_t kept = 0;
    do
    {
        size = syscall(SYS_getdents64, directory, listing, room < sizeof listing ? room : sizeof listing);
        kept = size > 0 ? leave_out(listing, (size_t)size, names) : 0;
    } while (size > 0 && kept == 0);
    const int error = errno;
    close(directory);
    if (size < 0)
        return -error;
    const int64_t result = myst_call_write(call, myst_call_argument(call, 1), listing, kept);
    return result != 0 ? result : (int64_t)kept;
}

/* A file that no name leads to any more is not there. */
static bool is_removed(const struct myst_call *call, const struct named *named)
{
    struct stat status;
    int descriptor;
    char end;
    if (!named->is_self || sscanf(named->rest, "fd/%d%c", &descriptor, &end) != 1)
        return false;
    const int64_t file = myst_call_open_descriptor(call, descriptor);
    const bool result = file >= 0 && fstat((int)file, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 0;
    if (file >= 0)
        close((int)file);
    return result;
}

int64_t myst_open_proc_file(const struct myst_call *call, const char *path, int flags)
{
    struct named named;
    if (!call->application->isolated || call->application->proc < 0 || (flags & O_ACCMODE) != O_RDONLY ||
        !parse(call, path, &named))
        return MYST_CONTINUE;
    if (is_removed(call, &named))
        return -ENOENT;
    const int content = is_there(call, named.process) ? myst_proc_content(call, named.process, named.rest) : -1;
    return content < 0 ? MYST_CONTINUE : myst_call_give(call, content, flags & O_CLOEXEC);
}

int64_t myst_serve_proc_files(const struct myst_call *call)
{
    if (!call->application->isolated || call->application->proc < 0)
        return MYST_CONTINUE;
    switch (call->notification.data.nr)
    {
    case SYS_stat:
        return examine(call, 0, true);
    case SYS_lstat:
        return examine(call, 0, false);
    case SYS_newfstatat:
        return examine(call, 1, !(myst_call_argument(call, 3) & AT_SYMLINK_NOFOLLOW));
    case SYS_readlink:
        return read_link(call, 0);
    case SYS_readlinkat:
        return read_link(call, 1);
    case SYS_getdents64:
        return list(call);
    default:
        return MYST_CONTINUE;
    }
}
