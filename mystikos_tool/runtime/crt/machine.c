#include "machine.h"

#include "../common/sizes.h"
#include "callers.h"
#include "disguise.h"
#include "process_files.h"
#include "process_list.h"
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define LOCKED_MEMORY (64ull << 20) /* as Mystikos has it, and the rest */
#define PENDING_SIGNALS 128319
#define MESSAGE_QUEUES 819200
#define FILE_SYSTEM_TYPE 0x858458f6 /* RAMFS_MAGIC */
#define FILE_SYSTEM_BLOCK 512

/* Where the system's structure ends that has this member last: C libraries add what is theirs behind. */
#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

/* The limits are those of the enclave, and what a program sets changes nothing. */
static int64_t limit_of(const struct myst_call *call, unsigned resource, struct rlimit *limit)
{
    rlim_t value = RLIM_INFINITY;
    switch (resource)
    {
    case RLIMIT_DATA:
        value = call->application->address_space / 10 * 7 + call->application->address_space % 10 * 7 / 10;
        break;
    case RLIMIT_STACK:
        if (prlimit(myst_call_thread(call), RLIMIT_STACK, NULL, limit) != 0)
            return -errno;
        value = limit->rlim_cur;
        break;
    case RLIMIT_CORE:
        *limit = (struct rlimit){0, RLIM_INFINITY};
        return 0;
    case RLIMIT_NPROC:
        value = MYST_MAX_THREADS;
        break;
    case RLIMIT_NOFILE:
        value = MYST_MAX_DESCRIPTORS;
        break;
    case RLIMIT_MEMLOCK:
        value = LOCKED_MEMORY;
        break;
    case RLIMIT_SIGPENDING:
        value = PENDING_SIGNALS;
        break;
    case RLIMIT_MSGQUEUE:
        value = MESSAGE_QUEUES;
        break;
    case RLIMIT_NICE:
    case RLIMIT_RTPRIO:
        value = 0;
        break;
    default:
        if (resource >= RLIM_NLIMITS)
            return -EINVAL;
    }
    *limit = (struct rlimit){value, value};
    return 0;
}

static int64_t get_limit(const struct myst_call *call, unsigned resource, uint64_t to)
{
    struct rlimit limit;
    const int64_t result = limit_of(call, resource, &limit);
    return result != 0 ? result : myst_call_write(call, to, &limit, sizeof limit);
}

static int64_t process_limit(const struct myst_call *call)
{
    const pid_t target = (pid_t)myst_call_argument(call, 0);
    const uint64_t new_limit = myst_call_argument(call, 2), old_limit = myst_call_argument(call, 3);
    struct rlimit limit;
    if (target != 0 && target != myst_call_thread(call) &&
        (target <= 1 || myst_thread_status(call->application, target, "\nTgid:", 10) != target))
        return -ESRCH;
    if (new_limit && myst_call_read(call, new_limit, &limit, sizeof limit) != 0)
        return -EFAULT;
    const int64_t result = limit_of(call, (unsigned)myst_call_argument(call, 1), &limit);
    return result != 0 || !old_limit ? result : myst_call_write(call, old_limit, &limit, sizeof limit);
}

static unsigned threads_of(const struct myst_call *call, pid_t process)
{
    char text[1024];
    unsigned count = 0;
    myst_read_process_file(call->application->proc, process, "stat", text, sizeof text);
    const char *at = myst_fields_of_stat(text);
    if (at)
        sscanf(at, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %u", &count);
    return count;
}

/* Pages that all processes but this one hold in memory of their own, and how many threads there are. */
static uint64_t pages_in_use(const struct myst_call *call, unsigned short *count)
{
    const pid_t *processes;
    uint64_t pages = 0;
    const int listed = myst_known_processes(call->application, &processes);
    *count = 0;
    for (int i = 0; i < listed; i++)
    {
        char text[64];
        unsigned long resident, shared;
        myst_read_process_file(call->application->proc, processes[i], "statm", text, sizeof text);
        if (sscanf(text, "%*u %lu %lu", &resident, &shared) != 2)
            continue;
        *count = (unsigned short)(*count + threads_of(call, processes[i]));
        pages += resident - shared;
    }
    return pages;
}

static int64_t tell_memory(const struct myst_call *call)
{
    struct sysinfo info;
    struct timespec now;
    const uint64_t total = call->application->address_space;
    memset(&info, 0, sizeof info);
    clock_gettime(CLOCK_MONOTONIC, &now);
    info.uptime = now.tv_sec - call->application->started;
    const uint64_t used = pages_in_use(call, &info.procs) * MYST_PAGE;
    info.totalram = total;
    info.freeram = used < total ? total - used : 0;
    info.mem_unit = 1;
    return myst_call_write(call, myst_call_argument(call, 0), &info, END_OF(struct sysinfo, mem_unit));
}

/* The host name that the application set, since the system does not let it. */
static char host_name[65];
static bool host_name_is_set;

static int64_t tell_system(const struct myst_call *call)
{
    struct utsname names;
    if (uname(&names) != 0)
        return -errno;
    if (host_name_is_set)
        memcpy(names.nodename, host_name, sizeof host_name);
    strcpy(names.release, "5.4.0");
    strcpy(names.version, "Mystikos 1.0.0");
    memset(names.domainname, 0, sizeof names.domainname);
    return myst_call_write(call, myst_call_argument(call, 0), &names, sizeof names);
}

/* All of the text, whatever length is told. */
static int64_t set_host_name(const struct myst_call *call)
{
    static char name[PATH_MAX];
    const int64_t result = myst_call_read_path(call, myst_call_argument(call, 0), name);
    if (result != 0 && result != -ENAMETOOLONG)
        return result;
    memcpy(host_name, name, sizeof host_name - 1);
    host_name_is_set = true;
    return 0;
}

static int64_t tell_file_system(const struct myst_call *call, int64_t file)
{
    const struct statfs told = {.f_type = FILE_SYSTEM_TYPE, .f_bsize = FILE_SYSTEM_BLOCK};
    if (file < 0)
        return file;
    struct stat status;
    const bool is_file = fstat((int)file, &status) != 0 || myst_is_in_file_system(call, &status);
    close((int)file);
    if (!is_file)
        return -EBADF;
    return myst_call_argument(call, 1) ? myst_call_write(call, myst_call_argument(call, 1), &told, sizeof told)
                                       : -EINVAL;
}

static int64_t tell_file_system_of_path(const struct myst_call *call)
{
    static char path[PATH_MAX];
    const int64_t result = myst_call_read_path(call, myst_call_argument(call, 0), path);
    if (result != 0)
        return result;
    if (!*path || !myst_call_argument(call, 1))
        return -EINVAL;
    int64_t file = myst_call_open(call, AT_FDCWD, path, 0);
    if (file == MYST_CONTINUE && *path == '/')
        file = open(path, O_PATH | O_CLOEXEC); /* no matter of whom /proc/self is */
    return tell_file_system(call, file == -1 ? -errno : file);
}

static struct timeval time_of_ticks(unsigned long ticks)
{
    const unsigned long second = (unsigned long)sysconf(_SC_CLK_TCK);
    return (struct timeval){.tv_sec = (time_t)(ticks / second),
                            .tv_usec = (suseconds_t)(ticks % second * 1000000 / second)};
}

/* Times only, of the process or of its children that have ended: fields 14 to 17 of /proc/PID/stat (proc(5)). */
static int64_t tell_usage(const struct myst_call *call)
{
    char text[1024];
    unsigned long ticks[4];
    struct rusage usage = {0};
    const bool children = (int)myst_call_argument(call, 0) == RUSAGE_CHILDREN;
    if (!myst_call_argument(call, 1) || call->application->proc < 0)
        return MYST_CONTINUE;
    myst_read_process_file(call->application->proc, myst_call_process(call), "stat", text, sizeof text);
    const char *at = myst_fields_of_stat(text);
    if (!at || sscanf(at, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu", &ticks[0], &ticks[1],
                      &ticks[2], &ticks[3]) != 4)
        return MYST_CONTINUE;
    usage.ru_utime = time_of_ticks(ticks[children ? 2 : 0]);
    usage.ru_stime = time_of_ticks(ticks[children ? 3 : 1]);
    return myst_call_write(call, myst_call_argument(call, 1), &usage, END_OF(struct rusage, ru_nivcsw));
}

/* The clock of a thread stands still. */
static int64_t tell_thread_time(const struct myst_call *call)
{
    const struct timespec none = {0};
    return myst_call_argument(call, 1) ? myst_call_write(call, myst_call_argument(call, 1), &none, sizeof none)
                                       : MYST_CONTINUE;
}

/* musl sets none by itself; another C library does, which a program does not have there. */
static int64_t tell_robust_list(const struct myst_call *call)
{
    const pid_t asked = (pid_t)myst_call_argument(call, 0), thread = asked ? asked : myst_call_thread(call);
    void *head = NULL;
    size_t size = 0;
    if (asked < 0)
        return -EINVAL;
    if (myst_thread_status(call->application, thread, "\nTgid:", 10) <= 1)
        return -ESRCH;
    if (!myst_uses_musl(call) || syscall(SYS_get_robust_list, thread, &head, &size) != 0 || !head)
        size = 0;
    head = size ? head : NULL;
    if (myst_call_argument(call, 1))
        myst_call_write(call, myst_call_argument(call, 1), &head, sizeof head);
    if (myst_call_argument(call, 2))
        myst_call_write(call, myst_call_argument(call, 2), &size, sizeof size);
    return 0;
}

int64_t myst_serve_machine(const struct myst_call *call)
{
    int64_t result;
    switch (call->notification.data.nr)
    {
    case SYS_getrlimit:
        result = get_limit(call, (unsigned)myst_call_argument(call, 0), myst_call_argument(call, 1));
        break;
    case SYS_prlimit64:
        result = process_limit(call);
        break;
    case SYS_sysinfo:
        result = tell_memory(call);
        break;
    case SYS_getrusage:
        return tell_usage(call);
    case SYS_clock_gettime:
        return tell_thread_time(call);
    case SYS_get_robust_list:
        return tell_robust_list(call);
    case SYS_uname:
        result = tell_system(call);
        break;
    case SYS_sethostname:
        return set_host_name(call);
    case SYS_statfs:
        result = tell_file_system_of_path(call);
        break;
    case SYS_fstatfs:
        result = tell_file_system(call, myst_call_open_descriptor(call, (int)myst_call_argument(call, 0)));
        break;
    default:
        return MYST_CONTINUE;
    }
    return result;
}
