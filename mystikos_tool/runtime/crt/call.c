#include "call.h"

#include "../common/sizes.h"
#include "callers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define USUAL_PATH 256 /* bytes */

static int64_t moved(ssize_t result, size_t size)
{
    if (result == (ssize_t)size)
        return 0;
    return result < 0 && errno == EPERM ? -EPERM : -EFAULT;
}

int64_t myst_call_read(const struct myst_call *call, uint64_t address, void *to, size_t size)
{
    const struct iovec here = {to, size}, there = {(void *)(uintptr_t)address, size};
    return moved(process_vm_readv(myst_call_thread(call), &here, 1, &there, 1, 0), size);
}

int64_t myst_call_write(const struct myst_call *call, uint64_t address, const void *from, size_t size)
{
    const struct iovec here = {(void *)(uintptr_t)from, size}, there = {(void *)(uintptr_t)address, size};
    return moved(process_vm_writev(myst_call_thread(call), &here, 1, &there, 1, 0), size);
}

/* Up to the end of a page at a time, what follows the path need not be mapped; and little at first, since most paths
 * are short. */
static int64_t read_path(const struct myst_call *call, uint64_t address, char *path)
{
    for (size_t have = 0; have < PATH_MAX;)
    {
        size_t size = MYST_PAGE - (address + have) % MYST_PAGE;
        const size_t most = have == 0 ? USUAL_PATH : PATH_MAX - have;
        size = size < most ? size : most;
        int64_t result = myst_call_read(call, address + have, path + have, size);
        if (result != 0)
            return result;
        if (memchr(path + have, 0, size))
            return 0;
        have += size;
    }
    return -ENAMETOOLONG;
}

/* Whoever looks at the path of a call sees the same one. */
int64_t myst_call_read_path(const struct myst_call *call, uint64_t address, char *path)
{
    static struct
    {
        bool is_there;
        uint64_t call, address;
        char path[PATH_MAX];
    } last;
    if (!last.is_there || last.call != call->notification.id || last.address != address)
    {
        const int64_t result = read_path(call, address, last.path);
        last.is_there = result == 0;
        last.call = call->notification.id;
        last.address = address;
        if (result == -ENAMETOOLONG)
            memcpy(path, last.path, PATH_MAX);
        if (result != 0)
            return result;
    }
    strcpy(path, last.path);
    return 0;
}

/* Opens what is below the caller's entry in /proc. */
static int open_of_caller(const struct myst_call *call, const char *name, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "%d/%s", (int)myst_call_thread(call), name);
    return openat(call->application->proc, path, flags | O_CLOEXEC);
}

/* These name the caller itself, or show what they refer to by a link. */
static bool is_special(const char *path)
{
    return strncmp(path, "/proc/self", 10) == 0 || strncmp(path, "/proc/thread-self", 17) == 0 ||
           strncmp(path, "/proc/.", 7) == 0 || strncmp(path, "/dev/fd", 7) == 0;
}

int64_t myst_call_open_descriptor(const struct myst_call *call, int descriptor)
{
    char name[32];
    if (descriptor < 0)
        return -EBADF;
    const int taken = myst_call_take_descriptor(call, descriptor);
    if (taken >= 0 || taken == -EBADF)
        return taken;
    snprintf(name, sizeof name, "fd/%d", descriptor);
    const int file = open_of_caller(call, name, O_PATH);
    if (file >= 0)
        return file;
    return errno == ENOENT ? -EBADF : MYST_CONTINUE;
}

/* Where a path that is not absolute begins. */
static int64_t open_start(const struct myst_call *call, int directory)
{
    if (directory != AT_FDCWD)
        return myst_call_open_descriptor(call, directory);
    const int file = open_of_caller(call, "cwd", O_PATH);
    return file >= 0 ? file : MYST_CONTINUE;
}

/* Never by a link of /proc to what is open, which would be open in this process. */
static int open_path(int from, const char *path, int flags)
{
    const struct open_how how = {.flags = (uint64_t)flags, .resolve = RESOLVE_NO_MAGICLINKS};
    const int file = (int)syscall(SYS_openat2, from, path, &how, sizeof how);
    return file >= 0 || errno != ENOSYS ? file : openat(from, path, flags); /* before Linux 5.6 */
}

int64_t myst_call_open(const struct myst_call *call, int directory, const char *path, unsigned flags)
{
    if (call->application->proc < 0 || is_special(path))
        return MYST_CONTINUE;
    if (!*path)
        return flags & AT_EMPTY_PATH ? open_start(call, directory) : -ENOENT;
    const int64_t from = *path == '/' ? AT_FDCWD : open_start(call, directory);
    if (from < 0 && from != AT_FDCWD)
        return from;
    const int file = open_path((int)from, path, O_PATH | O_CLOEXEC | (flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0));
    const int error = errno;
    if (from >= 0)
        close((int)from);
    if (file < 0 && error == ELOOP)
        return MYST_CONTINUE;
    return file >= 0 ? file : -error;
}

static int64_t look_from(int from, const char *path, unsigned flags, struct stat *status)
{
    return fstatat(from, path, status, (int)flags & AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
}

int64_t myst_call_look(const struct myst_call *call, int directory, const char *path, unsigned flags,
                       struct stat *status)
{
    if (call->application->proc < 0 || is_special(path) || !*path)
        return MYST_CONTINUE;
    if (*path == '/')
        return look_from(AT_FDCWD, path, flags, status);
    if (directory == AT_FDCWD)
    {
        static char whole[PATH_MAX];
        const int size = snprintf(whole, sizeof whole, "%d/cwd/%s", (int)myst_call_thread(call), path);
        return size < PATH_MAX ? look_from(call->application->proc, whole, flags, status) : MYST_CONTINUE;
    }
    const int from = myst_call_take_descriptor(call, directory);
    if (from < 0)
        return MYST_CONTINUE;
    const int64_t result = look_from(from, path, flags, status);
    close(from);
    return result;
}

int64_t myst_call_give(const struct myst_call *call, int file, bool close_on_exec)
{
    struct seccomp_notif_addfd addition = {
        .id = call->notification.id, .srcfd = (uint32_t)file, .newfd_flags = close_on_exec ? O_CLOEXEC : 0};
    const int number = ioctl(call->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &addition);
    const int error = errno;
    close(file);
    return number < 0 ? -error : number;
}

bool myst_call_loops(const struct myst_call *call, int directory, const char *path)
{
    const int64_t from = *path == '/' ? AT_FDCWD : open_start(call, directory);
    if ((from < 0 && from != AT_FDCWD) || is_special(path))
        return false;
    const int file = openat((int)from, path, O_PATH | O_CLOEXEC);
    const bool loops = file < 0 && errno == ELOOP;
    if (file >= 0)
        close(file);
    if (from >= 0)
        close((int)from);
    return loops;
}

pid_t myst_call_process(const struct myst_call *call)
{
    return myst_process_of_thread(call->application, myst_call_thread(call));
}

int myst_call_take_descriptor(const struct myst_call *call, int descriptor)
{
    const int process = myst_descriptor_of_process(call->application, myst_call_thread(call));
    if (process < 0)
        return process;
    const int file = (int)syscall(SYS_pidfd_getfd, process, descriptor, 0);
    return file >= 0 ? file : -errno;
}

long myst_call_status(const struct myst_call *call, const char *key, int base)
{
    return myst_thread_status(call->application, myst_call_thread(call), key, base);
}
