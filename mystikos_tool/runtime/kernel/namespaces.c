#include "namespaces.h"

#include "../common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* The number that a file of /proc/sys holds, or -1 without such a file. */
static long read_sysctl(const char *path)
{
    char text[32];
    long value = -1;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    if (size <= 0)
        return -1;
    text[size] = 0;
    return sscanf(text, "%ld", &value) == 1 ? value : -1;
}

/* In a chroot the mount that "/" lies on is not seen as one at "/" (proc(5), mountinfo: field 5). */
static bool is_in_chroot(void)
{
    char *line = NULL, point[8];
    size_t room = 0;
    bool found = false;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (!mounts)
        return false;
    while (!found && getline(&line, &room, mounts) > 0)
        found = sscanf(line, "%*s %*s %*s %*s %7s", point) == 1 && strcmp(point, "/") == 0;
    free(line);
    fclose(mounts);
    return !found;
}

struct obstacle
{
    const char *what, *remedy;
};

static struct obstacle find_obstacle(int error)
{
    if (error == EPERM && is_in_chroot())
        return (struct obstacle){"this is a chroot, in which Linux makes no user namespaces",
                                 "start the package outside of it"};
    if (error == EACCES)
        return (struct obstacle){"an AppArmor or SELinux profile forbids it, as in a container",
                                 "lift it (Docker: --security-opt apparmor=unconfined, Podman: --security-opt "
                                 "label=disable) or start the package outside of it"};
    if (read_sysctl("/proc/sys/user/max_user_namespaces") == 0)
        return (struct obstacle){"this machine allows no user namespaces",
                                 "as root, run: sysctl -w user.max_user_namespaces=10000"};
    if (error == ENOSPC)
        return (struct obstacle){"too many user namespaces are in use, or too many are nested",
                                 "as root, raise user.max_user_namespaces"};
    if (read_sysctl("/proc/sys/kernel/unprivileged_userns_clone") == 0)
        return (struct obstacle){"this machine allows user namespaces to root only",
                                 "as root, run: sysctl -w kernel.unprivileged_userns_clone=1"};
    if (read_sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1)
        return (struct obstacle){"AppArmor restricts user namespaces on this machine",
                                 "as root, run: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"};
    return (struct obstacle){"user namespaces are not available, as in a container whose seccomp profile forbids them",
                             "allow them there (Docker and Podman: --security-opt seccomp=unconfined) or start the "
                             "package outside of it"};
}

void myst_refuse_no_privilege(const char *step)
{
    const char *reason = strerror(errno);
    const struct obstacle obstacle = find_obstacle(errno);
    myst_refuse("%s: %s: %s; %s, or run without isolation: --myst-no-isolation", step, reason, obstacle.what,
                obstacle.remedy);
}

void myst_refuse_masked_proc(const char *step)
{
    myst_refuse("%s: %s: parts of this machine's /proc are hidden or read-only, as in a container; unmask "
                "them (Docker: --security-opt systempaths=unconfined, Podman: --security-opt unmask=ALL), start the "
                "package outside of it, or run without isolation: --myst-no-isolation",
                step, strerror(errno));
}

static int try_to_write(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    int result = write(file, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
    int error = errno;
    close(file);
    errno = error;
    return result;
}

static void write_proc_file(const char *path, const char *text)
{
    if (try_to_write(path, text) != 0)
    {
        char step[64];
        int error = errno;
        snprintf(step, sizeof step, "cannot write %s", path);
        errno = error;
        if (error == EROFS)
            myst_refuse_masked_proc(step);
        myst_refuse_no_privilege(step);
    }
}

/* One user and one group: the caller's, who are 0 inside. Linux demands that a process without
 * privileges outside gives up setgroups first. */
static void map_caller_to_root(uid_t user, gid_t group)
{
    char map[64];
    write_proc_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %lu 1\n", (unsigned long)user);
    if (try_to_write("/proc/self/uid_map", map) != 0)
    {
        if (user == 0 && errno == EPERM)
            myst_refuse(
                "cannot map user 0: root lacks CAP_SETFCAP, as in a container with dropped capabilities; "
                "allow it (Docker and Podman: --cap-add SETFCAP), start the package as an ordinary user, or run "
                "without isolation: --myst-no-isolation");
        myst_refuse_no_privilege("cannot write /proc/self/uid_map");
    }
    snprintf(map, sizeof map, "0 %lu 1\n", (unsigned long)group);
    write_proc_file("/proc/self/gid_map", map);
}

/* A namespace inside of ours would give the application capabilities again. */
static void forbid_more_namespaces(void)
{
    write_proc_file("/proc/sys/user/max_user_namespaces", "0\n");
}

static bool has_other_threads(void)
{
    struct stat status;
    return stat("/proc/self/task", &status) == 0 && status.st_nlink > 3; /* ".", its entry above, and each thread */
}

/* A user namespace is for a process of one thread. To the system, one that was waited for has a few last steps
 * before it is gone. */
static int unshare_without_threads(int namespaces)
{
    int result;
    while ((result = unshare(namespaces)) != 0 && errno == EINVAL && has_other_threads())
        sched_yield();
    return result;
}

void myst_enter_namespaces(void)
{
    uid_t user = geteuid();
    gid_t group = getegid();

    setgroups(0, NULL); /* which only root may */
    if (unshare_without_threads(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC) != 0)
        myst_refuse_no_privilege("cannot make namespaces");
    map_caller_to_root(user, group);
    /* Mounts made from here on stay here, and the host's do not come in. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        myst_refuse_no_privilege("cannot make the mounts private");
    forbid_more_namespaces();
    /* The caller's control groups have names on the host: shown where Linux knows none of this alone. */
    unshare(CLONE_NEWCGROUP);
}

void myst_enter_process_namespace(void)
{
    if (unshare(CLONE_NEWPID) != 0)
        myst_refuse_no_privilege("cannot make a process namespace");
}
