/* Does one small thing, named by its first argument, and prints what comes of it. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char *name_of(int error)
{
    switch (error)
    {
#define NAME(name) \
    case name:     \
        return #name;
        NAME(EACCES)
        NAME(EAFNOSUPPORT)
        NAME(EBADF)
        NAME(EFAULT)
        NAME(EINVAL)
        NAME(ENOENT)
        NAME(ENOEXEC)
        NAME(ENOSYS)
        NAME(ENOTSUP)
        NAME(EPERM)
        NAME(ESRCH)
    default:
        return strerror(error);
    }
}

static void say(const char *what, long result)
{
    if (result < 0)
        printf("%s: %s\n", what, name_of(errno));
    else
        printf("%s: ok\n", what);
}

static int make(const char *path, mode_t mode)
{
    return open(path, O_CREAT | O_RDWR, mode);
}

static void users(void)
{
    const gid_t groups[] = {1000, 1001};
    say("setgroups", setgroups(2, groups));
    say("setgid", setgid(1000));
    say("setuid", setuid(1000));
    printf("%d %d %d\n", getuid(), getgid(), getgroups(0, NULL));
    say("back", setuid(0));
}

static void owner(void)
{
    struct stat status;
    close(make("/tmp/file", 0644));
    say("chown", chown("/tmp/file", 4242, 7));
    stat("/tmp/file", &status);
    printf("%d %d\n", status.st_uid, status.st_gid);
}

static void limits(void)
{
    struct rlimit limit;
    const struct rlimit small = {10, 10};
    getrlimit(RLIMIT_NOFILE, &limit);
    printf("%ld %ld\n", (long)limit.rlim_cur, (long)limit.rlim_max);
    say("setrlimit", setrlimit(RLIMIT_NOFILE, &small));
    getrlimit(RLIMIT_NOFILE, &limit);
    printf("%ld\n", (long)limit.rlim_cur);
    getrlimit(RLIMIT_STACK, &limit);
    printf("%ld\n", (long)limit.rlim_cur);
}

static void machine(void)
{
    struct sysinfo info;
    struct utsname names;
    struct statfs files;
    sysinfo(&info);
    uname(&names);
    statfs("/tmp", &files);
    printf("%lu\n%s %s\n%lx %ld\n", info.totalram, names.release, names.version, (unsigned long)files.f_type,
           (long)files.f_bsize);
}

static void numbers(void)
{
    printf("%d %d %d %d\n", getpid(), getppid(), getpgrp(), getsid(0));
    say("setsid", setsid());
    say("kill of group 0", kill(0, 0));
    say("kill of process 1", kill(1, 0));
}

static void sockets(void)
{
    say("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    say("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    say("unix", socket(AF_UNIX, SOCK_STREAM, 0));
}

static void clocks(void)
{
    const struct timespec moment = {0, 1000};
    errno = clock_nanosleep(CLOCK_REALTIME, 0, &moment, NULL);
    say("realtime", errno ? -1 : 0);
    fflush(stdout);
    errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
    say("monotonic", errno ? -1 : 0);
}

static void timers(void)
{
    const struct itimerval none = {0};
    say("real", setitimer(ITIMER_REAL, &none, NULL));
    say("virtual", setitimer(ITIMER_VIRTUAL, &none, NULL));
}

static void locks(void)
{
    struct flock lock = {.l_type = F_WRLCK};
    const int file = make("/tmp/file", 0644);
    say("F_SETLK", fcntl(file, F_SETLK, &lock));
    say("F_GETLK", fcntl(file, F_GETLK, &lock));
    say("F_OFD_SETLK", fcntl(file, F_OFD_SETLK, &lock));
}

static void nodes(void)
{
    say("mkfifo", mkfifo("/tmp/fifo", 0644));
    say("open", open("/tmp/fifo", O_RDONLY | O_NONBLOCK));
    say("mknod", mknod("/tmp/file", S_IFREG | 0644, 0));
}

static void modes(void)
{
    mkdir("/tmp/closed", 0555);
    say("create", make("/tmp/closed/file", 0644));
}

static void spawn(void)
{
    char *arguments[] = {(char *)"probe", (char *)"status", NULL};
    pid_t child;
    int status = 0;
    errno = posix_spawn(&child, "/bin/probe", NULL, NULL, arguments, environ);
    say("spawn", errno ? -1 : 0);
    waitpid(child, &status, 0);
    printf("status %d\n", WEXITSTATUS(status));
    say("fork", fork());
}

static void text(void)
{
    char *arguments[] = {(char *)"text", NULL};
    const int file = make("/tmp/text", 0755);
    if (write(file, "text\n", 5) == 5)
        close(file);
    say("execve", execv("/tmp/text", arguments));
}

static void list_environment(void)
{
    for (char **variable = environ; *variable; variable++)
        puts(*variable);
}

int main(int argc, char **argv)
{
    static const struct
    {
        const char *name;
        void (*run)(void);
    } probes[] = {
        {"users", users},     {"owner", owner},
        {"limits", limits},   {"machine", machine},
        {"numbers", numbers}, {"sockets", sockets},
        {"clocks", clocks},   {"timers", timers},
        {"locks", locks},     {"nodes", nodes},
        {"modes", modes},     {"spawn", spawn},
        {"text", text},       {"environment", list_environment},
    };
    for (size_t i = 0; argc == 2 && i < sizeof probes / sizeof *probes; i++)
    {
        if (strcmp(argv[1], probes[i].name) != 0)
            continue;
        probes[i].run();
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "status") == 0)
        return 7;
    if (argc != 3 || strcmp(argv[1], "call") != 0)
        return 2;
    say("call", syscall(atol(argv[2]), 0, 0, 0, 0, 0, 0));
    return 0;
}
