/* One system call that the filter gave to process 1, and the caller's side of it: memory and files. What the caller
 * passes can change after a look at it, and may be anything. */
#ifndef MYST_CALL_H
#define MYST_CALL_H

#include "../common/application.h"

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* The system is to serve the call; far from every errno. */
#define MYST_CONTINUE INT64_MIN

/* There is nothing to answer any more: the caller makes another call in place of this one (redirect.h). */
#define MYST_REDIRECTED (INT64_MIN + 1)

/* Mystikos crashes upon the call, for what the arguments point to. */
#define MYST_CRASHES (INT64_MIN + 2)

/* Mystikos hangs upon the call. */
#define MYST_HANGS (INT64_MIN + 4)

/* The answer comes later (connecting.h). */
#define MYST_LATER (INT64_MIN + 3)

struct myst_call
{
    const struct myst_application *application;
    int listener;
    struct seccomp_notif notification;
};

static inline pid_t myst_call_thread(const struct myst_call *call)
{
    return (pid_t)call->notification.pid;
}

static inline uint64_t myst_call_argument(const struct myst_call *call, int index)
{
    return call->notification.data.args[index];
}

/* 0, or -EFAULT. -EPERM where the machine lets nobody look into another process. */
int64_t myst_call_read(const struct myst_call *call, uint64_t address, void *to, size_t size);
int64_t myst_call_write(const struct myst_call *call, uint64_t address, const void *from, size_t size);

/* Reads a path of up to PATH_MAX bytes; 0, -EFAULT, -EPERM, or -ENAMETOOLONG with as many of its bytes. */
int64_t myst_call_read_path(const struct myst_call *call, uint64_t address, char *path);

/* Opens the file that the caller names, without a right to read or write it. `flags`: AT_SYMLINK_NOFOLLOW,
 * AT_EMPTY_PATH. A descriptor, a negative errno, or MYST_CONTINUE where process 1 would find something else. */
int64_t myst_call_open(const struct myst_call *call, int directory, const char *path, unsigned flags);

/* What lies at the path, at less cost than opening it; 0, or as myst_call_open says. It is good for letting the system
 * serve the call and no more: through links of /proc it can be what this process has. */
int64_t myst_call_look(const struct myst_call *call, int directory, const char *path, unsigned flags,
                       struct stat *status);

/* Opens what the descriptor of the caller refers to; results as of myst_call_open. */
int64_t myst_call_open_descriptor(const struct myst_call *call, int descriptor);

/* A descriptor of this process for the file that the caller has open as `descriptor`, with the same rights and
 * position; or a negative errno. */
int myst_call_take_descriptor(const struct myst_call *call, int descriptor);

/* Gives the caller a descriptor for `file`, which is closed here; its number there, or a negative errno. */
int64_t myst_call_give(const struct myst_call *call, int file, bool close_on_exec);

/* True where following the links of the path never ends. */
bool myst_call_loops(const struct myst_call *call, int directory, const char *path);

/* The process that the caller is a thread of, or -1. */
pid_t myst_call_process(const struct myst_call *call);

/* The number behind `key` in the caller's /proc status, or -1. */
long myst_call_status(const struct myst_call *call, const char *key, int base);

#endif
