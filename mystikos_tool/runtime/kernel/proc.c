#include "proc.h"

#include "../common/error.h"
#include "../common/linux_version.h"
#include "../common/proc_files.h"
#include "../common/sizes.h"
#include "mounting.h"
#include "namespaces.h"
#include "write.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAST_PROCESS "99" /* before those that process 1 begins */
#define FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)
#define HIDDEN "dev/.hidden" /* a file that nobody may open, for a moment */

/* What a caller who is root on the host could read, and others could not. */
static void hide_from_root(void)
{
    struct dirent *entry;
    struct stat status;
    DIR *directory = opendir("proc");
    const int nothing = open(HIDDEN, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
    if (!directory || nothing < 0)
        myst_refuse_errno("cannot hide files of /proc");
    close(nothing);
    while ((entry = readdir(directory)))
    {
        char path[sizeof "proc/" + NAME_MAX];
        snprintf(path, sizeof path, "proc/%s", entry->d_name);
        if (lstat(path, &status) != 0 || !S_ISREG(status.st_mode) || (status.st_mode & S_IROTH))
            continue;
        if (mount(HIDDEN, path, NULL, MS_BIND, NULL) != 0)
            myst_refuse_errno("cannot hide /%s", path);
        myst_make_read_only(path, FLAGS);
    }
    closedir(directory);
    unlink(HIDDEN);
}

static void mount_over(const char *text, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "dev/.%s", strrchr(name, '/') ? strrchr(name, '/') + 1 : name);
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (file < 0 || myst_write_all(file, text, strlen(text)) != 0)
        myst_refuse_errno("cannot write /proc/%s", name);
    close(file);
    char target[64];
    snprintf(target, sizeof target, "proc/%s", name);
    if (mount(path, target, NULL, MS_BIND, NULL) != 0)
        myst_refuse_errno("cannot mount /%s", target);
    myst_make_read_only(target, MS_NOSUID | MS_NODEV | MS_NOEXEC);
    unlink(path);
}

static const char processors[] = "cpu  0 0 0 0 0 0 0 0 0 0\nintr 0\nnctxt 0\nbtime 0\nprocesses 0\nprocs_running 0\n"
                                 "procs_blocked 0\nsoftirq 0\n";
static const char last_process[] = "32768\n";

/* The memory of the enclave, in the form that Mystikos gives it. */
static void describe_memory(uint64_t memory, char *text, size_t size)
{
    snprintf(text, size, "MemTotal:       %llu\nMemFree:        %llu\nCached:         0\n", (unsigned long long)memory,
             (unsigned long long)(memory - memory / 16));
}

/* Over the files of Linux. */
static void describe_machine(uint64_t memory)
{
    char text[128];
    describe_memory(memory, text, sizeof text);
    mount_over(text, "meminfo");
    mount_over(processors, "stat");
    mount_over(last_process, "sys/kernel/pid_max");
}

static int open_setting(const char *proc, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "%s/sys/kernel/%s", proc, name);
    return open(path, O_WRONLY | O_CLOEXEC);
}

/* So many processes and threads there can be at once, for root as well: numbers up to 300 are given out once only.
 * Before Linux 6.14 the setting is the host's. */
static void limit_processes(const char *proc)
{
    char number[16];
    const int size = snprintf(number, sizeof number, "%d", MYST_MAX_THREADS + 300);
    if (!myst_linux_is_at_least(6, 14))
        return;
    const int file = open_setting(proc, "pid_max");
    if (file < 0 || write(file, number, (size_t)size) != size)
        myst_refuse_errno("cannot limit the number of processes");
    close(file);
}

/* Process 1 begins a thread (crt/notify_thread.h) and then the application, which gets the number that it has on
 * Mystikos. Does nothing on a Linux that cannot set it. */
static void choose_first_process(const char *proc)
{
    const int file = open_setting(proc, "ns_last_pid");
    const ssize_t written = file < 0 ? -1 : write(file, LAST_PROCESS, sizeof LAST_PROCESS - 1);
    (void)written;
    if (file >= 0)
        close(file);
}

static void mount_linux(const char *at, const char *options)
{
    if (mount("proc", at, "proc", FLAGS, options) == 0)
        return;
    if (errno == EPERM)
        myst_refuse_masked_proc("cannot mount /proc");
    myst_refuse_errno("cannot mount /proc");
}

static void make_as_linux(uint64_t memory)
{
    mount_linux("proc", NULL);
    limit_processes("proc");
    choose_first_process("proc");
    hide_from_root();
    describe_machine(memory);
    myst_make_read_only("proc", FLAGS);
}

static void make_directory(const char *path)
{
    if (mkdir(path, 0777) != 0)
        myst_refuse_errno("cannot make /%s", path);
}

static void make_file(const char *path, const char *text, unsigned mode)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (file < 0 || myst_write_all(file, text, strlen(text)) != 0)
        myst_refuse_errno("cannot write /%s", path);
    close(file);
}

/* The machine's processors, as Linux describes them when they are asked for. */
static void show_processors(void)
{
    make_file("proc/cpuinfo", "", 0400);
    if (mount("proc/" MYST_LINUX_PROC "/cpuinfo", "proc/cpuinfo", NULL, MS_BIND, NULL) != 0)
        myst_refuse_errno("cannot mount /proc/cpuinfo");
    myst_make_read_only("proc/cpuinfo", FLAGS);
}

/* What a process finds of itself, whichever it is: the system knows where the links lead. */
static void make_self(void)
{
    char path[64], target[64];
    make_directory("proc/self");
    for (size_t i = 0; i < MYST_COUNT(myst_process_files); i++)
    {
        snprintf(path, sizeof path, "proc/self/%s", myst_process_files[i].name);
        snprintf(target, sizeof target, "/proc/" MYST_LINUX_PROC "/self/%s", myst_process_files[i].name);
        if (symlink(target, path) != 0)
            myst_refuse_errno("cannot make /%s", path);
    }
    chmod("proc/self", 0555);
}

/* Files of Mystikos' /proc, in memory. Those of processes are links into /proc of Linux, which lies below. */
static void make_as_mystikos(uint64_t memory)
{
    static const char linux[] = "proc/" MYST_LINUX_PROC;
    char text[128];
    if (mount("proc", "proc", "tmpfs", FLAGS, "mode=0777,size=1m,nr_inodes=16384") != 0)
        myst_refuse_errno("cannot mount /proc");
    make_directory(linux);
    mount_linux(linux, NULL);
    limit_processes(linux);
    choose_first_process(linux);
    show_processors();
    if (umount2(linux, MNT_DETACH) != 0)
        myst_refuse_errno("cannot let go of /proc");
    mount_linux(linux, "subset=pid");
    /* What is written there can reach beyond the sandbox: to the priority of the caller's session (sched(7)). */
    myst_make_read_only(linux, FLAGS);
    describe_memory(memory, text, sizeof text);
    make_file("proc/meminfo", text, 0400);
    make_file("proc/stat", processors, 0400);
    make_directory("proc/sys");
    make_directory("proc/sys/kernel");
    make_file("proc/sys/kernel/pid_max", last_process, 0400);
    make_self();
}

void myst_mount_proc(uint64_t memory, bool as_linux)
{
    myst_need_directory("proc", 0555);
    if (!myst_is_empty_directory("proc"))
        myst_refuse("/proc in the root file system is not empty, and Mystikos does not start with it");
    if (as_linux)
        make_as_linux(memory);
    else
        make_as_mystikos(memory);
}
