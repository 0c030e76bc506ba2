#include "root.h"

#include "../common/error.h"
#include "../common/sizes.h"
#include "file_limits.h"
#include "mounting.h"
#include "namespaces.h"
#include "path.h"
#include "proc.h"
#include "tmpfs.h"
#include "write.h"

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

static const char *const devices[] = {"null", "zero", "random", "urandom"};
static const char *const devices_of_linux[] = {"full", "tty"};

#define SHARED_MODE 0777 /* of the directories that Mystikos makes by itself */

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
    myst_limit_files_at(".");
}

void myst_need_empty_directory(const char *directory)
{
    if (mkdir(directory, 0755) != 0 && errno != EEXIST)
        myst_refuse_errno("options: --myst-root: cannot make %s", directory);
    if (!myst_is_empty_directory(directory))
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

static void mount_in_root(const char *type, const char *path, unsigned long flags, const char *options)
{
    if (mount(type, path, type, flags, options) != 0)
        myst_refuse_errno("cannot mount /%s", path);
}

static void bind_file(const char *source, const char *target)
{
    const int file = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0)
        myst_refuse_errno("cannot make /%s", target);
    close(file);
    if (mount(source, target, NULL, MS_BIND, NULL) != 0)
        myst_refuse_errno("cannot mount /%s", target);
}

/* A device of the host's under the same name: a namespace without privileges cannot make its own. */
static void bind_device(const char *name)
{
    char source[32], target[32];
    snprintf(source, sizeof source, "/dev/%s", name);
    snprintf(target, sizeof target, "dev/%s", name);
    bind_file(source, target);
    /* Devices can be written to all the same, but whoever is user 0 outside as well must not change the
     * host's node. */
    myst_make_read_only(target, MS_NOSUID | MS_NOEXEC);
}

/* What Mystikos lacks, and Linux has. */
static void complete_dev_as_linux(void)
{
    for (size_t i = 0; i < MYST_COUNT(devices_of_linux); i++)
        bind_device(devices_of_linux[i]);
    if (symlink("/proc/self/fd/0", "dev/stdin") != 0 || symlink("/proc/self/fd/1", "dev/stdout") != 0 ||
        symlink("/proc/self/fd/2", "dev/stderr") != 0)
        myst_refuse_errno("cannot complete /dev");
}

static void make_dev(uint64_t shared_memory)
{
    char options[96];

    myst_need_directory("dev", 0755);
    mount_in_root("tmpfs", "dev", MS_NOSUID | MS_NOEXEC, "mode=0777,size=1m,nr_inodes=16384");
    for (size_t i = 0; i < MYST_COUNT(devices); i++)
        bind_device(devices[i]);

    myst_need_directory("dev/pts", SHARED_MODE);
    mount_in_root("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620");
    chmod("dev/pts", SHARED_MODE);
    myst_need_directory("dev/shm", SHARED_MODE);
    snprintf(options, sizeof options, "mode=0777,size=%llu,nr_inodes=%llu", (unsigned long long)shared_memory,
             (unsigned long long)(1024 + shared_memory / MYST_PAGE));
    mount_in_root("tmpfs", "dev/shm", MS_NOSUID | MS_NODEV, options);
    myst_limit_files_at("dev/shm");

    if (symlink("/proc/self/fd", "dev/fd") != 0)
        myst_refuse_errno("cannot make /dev/fd");
    bind_file("dev/pts/ptmx", "dev/ptmx");
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

void myst_complete_root(uint64_t bytes, bool as_linux)
{
    make_dev(bytes);
    if (as_linux)
        complete_dev_as_linux();
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

void myst_change_root(uint64_t memory, bool as_linux)
{
    myst_mount_proc(memory, as_linux);
    /* The old root ends up mounted over the new one (pivot_root(2), "pivot_root(".", ".")"), and goes. */
    if (syscall(SYS_pivot_root, ".", ".") != 0)
        myst_refuse_errno("cannot change the root");
    if (umount2(".", MNT_DETACH) != 0)
        myst_refuse_errno("cannot let go of the host's root");
    if (chdir("/") != 0)
        myst_refuse_errno("cannot enter the new root");
}
