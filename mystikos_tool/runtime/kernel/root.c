#include "root.h"

#include "../common/error.h"
#include "../common/linux_version.h"
#include "../common/sizes.h"
#include "namespaces.h"
#include "path.h"
#include "tmpfs.h"
#include "write.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where the root can be mounted for as long as it is being made: any directory that is on every machine
 * and that nothing below is read from. */
static const char *const mount_points[] = {"/tmp", "/run", "/mnt", "/var", "/usr"};

static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};

#define LAST_PROCESS "100" /* before the application */
#define SHARED_MODE 0777   /* of the directories that Mystikos makes by itself */

static const char *const device_links[][2] = {
    {"pts/ptmx", "dev/ptmx"},          {"/proc/self/fd", "dev/fd"},       {"/proc/self/fd/0", "dev/stdin"},
    {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"},
};

/* A caller who is root on the host could write these even without capabilities. */
static const char *const protected_in_proc[] = {"proc/sys", "proc/sysrq-trigger", "proc/irq", "proc/bus",
                                                "proc/fs",  "proc/acpi",          "proc/scsi"};

/* What a caller who is root on the host could read of it. */
static const char *const hidden_in_proc[] = {"proc/kpagecgroup",   "proc/kpagecount",   "proc/kpageflags",
                                             "proc/latency_stats", "proc/pagetypeinfo", "proc/sched_debug",
                                             "proc/slabinfo",      "proc/timer_list",   "proc/vmallocinfo"};

const char *myst_root_mount_point(void)
{
    for (size_t i = 0; i < MYST_COUNT(mount_points); i++)
    {
        struct stat status;
        if (stat(mount_points[i], &status) == 0 && S_ISDIR(status.st_mode))
            return mount_points[i];
    }
    myst_refuse("cannot make a root file system: this machine has no /tmp");
}

void myst_enter_root_mount(void)
{
    const char *mount_point = myst_root_mount_point();
    if (chdir(mount_point) != 0)
        myst_refuse_errno("cannot enter %s", mount_point);
}

void myst_make_root(uint64_t bytes, uint64_t files)
{
    char options[96];
    const char *mount_point = myst_root_mount_point();

    snprintf(options, sizeof options, "mode=0777,size=%llu,nr_inodes=%llu", (unsigned long long)bytes,
             (unsigned long long)files);
    if (myst_mount_tmpfs(mount_point, options) != 0)
        myst_refuse_no_privilege("cannot make a file system in memory");
    myst_enter_root_mount();
}

static bool is_empty(const char *directory)
{
    bool empty = true;
    struct dirent *entry;
    DIR *stream = opendir(directory);
    if (!stream)
        myst_refuse_errno("options: --myst-root: cannot read %s", directory);
    while ((entry = readdir(stream)))
        empty &= strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(stream);
    return empty;
}

void myst_need_empty_directory(const char *directory)
{
    if (mkdir(directory, 0755) != 0 && errno != EEXIST)
        myst_refuse_errno("options: --myst-root: cannot make %s", directory);
    if (!is_empty(directory))
        myst_refuse("options: --myst-root: %s is not empty", directory);
}

/* A namespace of ours cannot take off the flags that the mount came with. */
static unsigned long flags_of_mount(const char *path)
{
    struct statvfs status;
    if (statvfs(path, &status) != 0)
        myst_refuse_errno("cannot examine %s", path);
    return status.f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

void myst_keep_root(const char *directory)
{
    const char *mount_point = myst_root_mount_point();

    myst_need_empty_directory(directory);
    if (flags_of_mount(directory) & MS_NOEXEC)
        myst_refuse("options: --myst-root: no program can be started in %s, which is mounted noexec", directory);
    if (mount(directory, mount_point, NULL, MS_BIND, NULL) != 0)
        myst_refuse_no_privilege("cannot mount the directory of --myst-root");
    unsigned long flags = flags_of_mount(mount_point) | MS_NOSUID | MS_NODEV;
    if (mount(NULL, mount_point, NULL, MS_REMOUNT | MS_BIND | flags, NULL) != 0)
        myst_refuse_errno("options: --myst-root: cannot restrict %s", directory);
    myst_enter_root_mount();
}

/* Makes sure that there is a directory to mount on; the archive may have put something else there. */
static void need_directory(const char *path, mode_t mode)
{
    struct stat status;
    if (mkdir(path, mode) == 0)
        return;
    if (errno != EEXIST || lstat(path, &status) != 0)
        myst_refuse_errno("cannot make /%s", path);
    if (!S_ISDIR(status.st_mode))
        myst_refuse("/%s in the root file system must be a directory", path);
}

static void mount_in_root(const char *type, const char *path, unsigned long flags, const char *options)
{
    if (mount(type, path, type, flags, options) != 0)
        myst_refuse_errno("cannot mount /%s", path);
}

static void make_read_only(const char *path, unsigned long flags)
{
    if (mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) != 0)
        myst_refuse_errno("cannot protect /%s", path);
}

/* A device of the host's under the same name: a namespace without privileges cannot make its own. */
static void bind_device(const char *name)
{
    char source[32], target[32];
    snprintf(source, sizeof source, "/dev/%s", name);
    snprintf(target, sizeof target, "dev/%s", name);
    int file = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0)
        myst_refuse_errno("cannot make /%s", target);
    close(file);
    if (mount(source, target, NULL, MS_BIND, NULL) != 0)
        myst_refuse_errno("cannot mount /%s", target);
    /* Devices can be written to all the same, but whoever is user 0 outside as well must not change the
     * host's node. */
    make_read_only(target, MS_NOSUID | MS_NOEXEC);
}

static void make_dev(uint64_t shared_memory)
{
    char options[64];

    need_directory("dev", 0755);
    mount_in_root("tmpfs", "dev", MS_NOSUID | MS_NOEXEC, "mode=0777,size=1m");
    for (size_t i = 0; i < MYST_COUNT(devices); i++)
        bind_device(devices[i]);

    need_directory("dev/pts", SHARED_MODE);
    mount_in_root("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620");
    chmod("dev/pts", SHARED_MODE);
    need_directory("dev/shm", SHARED_MODE);
    snprintf(options, sizeof options, "mode=0777,size=%llu", (unsigned long long)shared_memory);
    mount_in_root("tmpfs", "dev/shm", MS_NOSUID | MS_NODEV, options);

    for (size_t i = 0; i < MYST_COUNT(device_links); i++)
        if (symlink(device_links[i][0], device_links[i][1]) != 0)
            myst_refuse_errno("cannot make /%s", device_links[i][1]);
}

/* The path of an entry of /etc below the working directory, its links followed inside. What the root has of these
 * files Mystikos writes over. */
static char *path_in_etc(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/etc/%s", name);
    char *resolved = myst_path_resolve(path);
    struct stat status;
    if (!resolved || (lstat(path + 1, &status) == 0 && S_ISLNK(status.st_mode) && lstat(resolved, &status) != 0))
        myst_refuse("%s in the root file system is a symbolic link that leads nowhere, with which Mystikos does not "
                    "start",
                    path);
    return resolved;
}

/* The network is the host's, and so are its names. A file that the host lacks is left out. */
static void copy_from_host_etc(const char *name)
{
    char path[64], data[4096];
    ssize_t size;

    snprintf(path, sizeof path, "/etc/%s", name);
    char *target = path_in_etc(name);
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from < 0)
        return;
    chmod(target, 0644); /* the root may have it without w */
    int to = open(target, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0644);
    if (to < 0)
        myst_refuse_errno("cannot write %s", path);
    while ((size = read(from, data, sizeof data)) > 0)
        if (myst_write_all(to, data, (size_t)size) != 0)
            myst_refuse_errno("cannot write %s", path);
    close(to);
    close(from);
    free(target);
}

static bool is_directory(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* Mystikos puts a directory in the place of a file. */
static void remove_file(const char *path)
{
    struct stat status;
    if (lstat(path, &status) == 0 && S_ISREG(status.st_mode))
        unlink(path);
}

/* As Mystikos makes them, whatever the root's modes are. */
static void make_shared_directory(const char *path)
{
    remove_file(path);
    if (mkdir(path, SHARED_MODE) != 0 && is_directory(path))
        chmod(path, SHARED_MODE);
}

static void complete_directories(void)
{
    chmod(".", SHARED_MODE);
    make_shared_directory("tmp");
    mkdir("usr", SHARED_MODE);
    if (is_directory("usr"))
        mkdir("usr/local", SHARED_MODE);
    if (is_directory("usr") && is_directory("usr/local"))
        mkdir("usr/local/etc", SHARED_MODE);
    remove_file("etc");
    mkdir("etc", 0755);
    copy_from_host_etc("resolv.conf");
    copy_from_host_etc("hosts");
}

void myst_complete_root(uint64_t bytes)
{
    make_dev(bytes);
    complete_directories();
}

/* Makes the devices where the caller may do that, as root may in most containers. */
static void make_dev_without_mounts(void)
{
    if (mkdir("dev", 0755) != 0)
        return;
    for (size_t i = 0; i < MYST_COUNT(devices); i++)
    {
        struct stat status;
        char source[32], target[32];
        snprintf(source, sizeof source, "/dev/%s", devices[i]);
        snprintf(target, sizeof target, "dev/%s", devices[i]);
        if (stat(source, &status) == 0)
            mknod(target, S_IFCHR | 0666, status.st_rdev);
    }
    mkdir("dev/shm", 01777);
}

void myst_complete_root_without_mounts(void)
{
    make_dev_without_mounts();
    complete_directories();
}

static void protect_in_proc(const char *path)
{
    if (mount(path, path, NULL, MS_BIND, NULL) != 0)
    {
        if (errno == ENOENT)
            return;
        myst_refuse_errno("cannot protect /%s", path);
    }
    make_read_only(path, MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

static void hide_in_proc(const char *path)
{
    if (access(path, R_OK) != 0)
        return;
    if (mount("dev/null", path, NULL, MS_BIND, NULL) != 0)
        myst_refuse_errno("cannot hide /%s", path);
    make_read_only(path, MS_NOSUID | MS_NOEXEC);
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
    make_read_only(target, MS_NOSUID | MS_NODEV | MS_NOEXEC);
    unlink(path);
}

/* The memory of the enclave and its processors, in the form that Mystikos gives them. */
static void describe_machine(uint64_t memory)
{
    char text[512];
    snprintf(text, sizeof text, "MemTotal:       %llu\nMemFree:        %llu\nCached:         0\n",
             (unsigned long long)memory, (unsigned long long)(memory - memory / 16));
    mount_over(text, "meminfo");
    mount_over("cpu  0 0 0 0 0 0 0 0 0 0\nintr 0\nnctxt 0\nbtime 0\nprocesses 0\nprocs_running 0\nprocs_blocked 0\n"
               "softirq 0\n",
               "stat");
    mount_over("32768\n", "sys/kernel/pid_max");
}

/* So many processes and threads there can be at once, for root as well: numbers up to 300 are given out once only.
 * Before Linux 6.14 the setting is the host's. */
static void limit_processes(void)
{
    char number[16];
    const int size = snprintf(number, sizeof number, "%d", MYST_MAX_THREADS + 300);
    if (!myst_linux_is_at_least(6, 14))
        return;
    const int file = open("proc/sys/kernel/pid_max", O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, number, (size_t)size) != size)
        myst_refuse_errno("cannot limit the number of processes");
    close(file);
}

/* Process 1 starts the application, which gets the number that it has on Mystikos. Does nothing on a Linux that cannot
 * set it. */
static void choose_first_process(void)
{
    const int file = open("proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    const ssize_t written = file < 0 ? -1 : write(file, LAST_PROCESS, sizeof LAST_PROCESS - 1);
    (void)written;
    if (file >= 0)
        close(file);
}

static void mount_proc(uint64_t memory)
{
    need_directory("proc", 0555);
    if (!is_empty("proc"))
        myst_refuse("/proc in the root file system is not empty, and Mystikos does not start with it");
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
    {
        if (errno == EPERM)
            myst_refuse_masked_proc("cannot mount /proc");
        myst_refuse_errno("cannot mount /proc");
    }
    limit_processes();
    choose_first_process();
    chmod("proc", SHARED_MODE); /* as it shows on Mystikos; nothing can be made there */
    for (size_t i = 0; i < MYST_COUNT(protected_in_proc); i++)
        protect_in_proc(protected_in_proc[i]);
    for (size_t i = 0; i < MYST_COUNT(hidden_in_proc); i++)
        hide_in_proc(hidden_in_proc[i]);
    describe_machine(memory);
}

void myst_change_root(uint64_t memory)
{
    mount_proc(memory);
    /* The old root ends up mounted over the new one (pivot_root(2), "pivot_root(".", ".")"), and goes. */
    if (syscall(SYS_pivot_root, ".", ".") != 0)
        myst_refuse_errno("cannot change the root");
    if (umount2(".", MNT_DETACH) != 0)
        myst_refuse_errno("cannot let go of the host's root");
    if (chdir("/") != 0)
        myst_refuse_errno("cannot enter the new root");
}
