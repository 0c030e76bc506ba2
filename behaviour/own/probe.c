/* Does one small thing, named by its first argument, and prints what comes of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
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
        NAME(EISDIR)
        NAME(ENOENT)
        NAME(ENOEXEC)
        NAME(ENOSYS)
        NAME(ENOTEMPTY)
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

static void write_file(const char *path, const char *content, mode_t mode)
{
    const int file = make(path, mode);
    if (write(file, content, strlen(content)) != (ssize_t)strlen(content))
        perror(path);
    close(file);
}

/* Shared mappings are copies; places and kinds of memory that a program asks for are not given. */
static void mappings(void)
{
    char byte = 0;
    write_file("/tmp/mapped", "old", 0644);
    const int file = open("/tmp/mapped", O_RDWR);
    char *shared = mmap(NULL, 3, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    say("shared", shared == MAP_FAILED ? -1 : 0);
    shared[0] = 'O';
    printf("before msync: %c\n", pread(file, &byte, 1, 0) == 1 ? byte : '?');
    say("msync", msync(shared, 3, MS_SYNC));
    printf("after msync: %c\n", pread(file, &byte, 1, 0) == 1 ? byte : '?');
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    say("fixed", mmap((void *)0x10000000, 4096, PROT_READ, flags | MAP_FIXED, -1, 0) == MAP_FAILED ? -1 : 0);
    const void *wished = (void *)0x20000000, *given = mmap((void *)0x20000000, 4096, PROT_READ, flags, -1, 0);
    printf("where it was asked for: %d\n", given == wished);
    printf("below 4 GiB: %d\n", (unsigned long)mmap(NULL, 4096, PROT_READ, flags | MAP_32BIT, -1, 0) >> 32 == 0);
}

static void start(const char *path)
{
    char *arguments[] = {(char *)(unsigned long)path, (char *)"x", NULL};
    pid_t child;
    int status = 0;
    errno = posix_spawn(&child, path, NULL, NULL, arguments, environ);
    say(path, errno ? -1 : 0);
    fflush(stdout);
    if (errno == 0 && waitpid(child, &status, 0) == child)
        printf("status %d\n", WEXITSTATUS(status));
    fflush(stdout);
}

static void scripts(void)
{
    write_file("/tmp/words", "#!/bin/probe words two three\n", 0755);
    start("/tmp/words");
    write_file("/tmp/lost", "#!/no/interpreter\n", 0755);
    start("/tmp/lost");
    const int writer = make("/tmp/busy", 0755);
    if (write(writer, "#!/bin/probe words\n", 19) == 19)
        start("/tmp/busy");
}

static void stop(void)
{
    say("raise", raise(SIGTSTP));
}

static void stop_for_good(void)
{
    raise(SIGSTOP);
}

static void kinds(const char *path)
{
    struct stat status;
    if (lstat(path, &status) != 0)
        printf("%s: %s\n", path, name_of(errno));
    else
        printf("%s %o device %d\n", path, status.st_mode, status.st_rdev != 0);
}

static void system_files(void)
{
    static const char *const paths[] = {
        "/dev/null",          "/dev/full",       "/dev/stdout", "/dev/ptmx", "/proc/uptime", "/proc/stat",
        "/proc/self/cmdline", "/proc/self/maps", "/proc/self",  "/proc/101", "/proc/1"};
    char link[32] = "";
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        kinds(paths[i]);
    printf("self is %.*s\n", (int)readlink("/proc/self", link, sizeof link), link);
    say("create", make("/proc/file", 0644));
    say("remove", unlink("/dev/null"));
}

static void list_processes(void)
{
    DIR *directory = opendir("/proc");
    int numbers = 0, others = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? numbers++ : others++;
    printf("%d process, %d others\n", numbers, others - 2);
    closedir(directory);
}

static void files(void)
{
    struct stat status;
    say("write a directory", open("/tmp", O_WRONLY));
    say("O_TMPFILE", open("/tmp", O_TMPFILE | O_RDWR, 0600));
    say("make with /", open("/tmp/new/", O_CREAT | O_WRONLY, 0644));
    write_file("/tmp/closed", "x", 0444);
    say("write 0444", open("/tmp/closed", O_WRONLY));
    say("truncate 0444", truncate("/tmp/closed", 0));
    printf("flags %x\n", fcntl(open("/tmp/closed", O_RDONLY | O_NOATIME), F_GETFL));
    mkdir("/tmp/empty", 0755);
    stat("/tmp/empty", &status);
    printf("size %ld block %ld device %ld\n", (long)status.st_size, (long)status.st_blksize, (long)status.st_dev);
    say("unlink of a directory", unlink("/tmp/empty"));
    say("rmdir of the root", rmdir("/"));
}

static void place(void)
{
    char path[64];
    printf("%s\n", getcwd(path, sizeof path) ? path : name_of(errno));
    say("make", make("file", 0644));
}

static void unix_sockets(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/tmp/socket"};
    int pair[2];
    char byte;
    say("pair", socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    say("send", send(pair[0], "x", 1, 0));
    say("send", send(pair[0], "x", 1, 0));
    say("receive with a flag", recv(pair[1], &byte, 1, MSG_DONTWAIT));
    say("receive", recv(pair[1], &byte, 1, 0));
    say("bind", bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
}

/* A console, whatever it is outside. */
static void console(void)
{
    struct winsize size = {0};
    struct stat status;
    say("size", ioctl(1, TIOCGWINSZ, &size));
    printf("%d %d\n", size.ws_row, size.ws_col);
    say("settings", ioctl(1, TCGETS, &(struct termios){0}));
    fstat(1, &status);
    printf("device %d\n", S_ISCHR(status.st_mode) != 0);
}

static void times_and_waits(void)
{
    struct timespec time = {1, 1};
    struct rusage usage;
    pid_t child;
    char *arguments[] = {(char *)"probe", (char *)"status", NULL};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    printf("clock of the thread %ld\n", (long)time.tv_sec + time.tv_nsec);
    say("clock of an alarm", clock_gettime(CLOCK_BOOTTIME_ALARM, &time));
    say("usage", getrusage(RUSAGE_SELF, &usage));
    printf("memory %ld\n", usage.ru_maxrss);
    signal(SIGCHLD, SIG_IGN);
    posix_spawn(&child, "/bin/probe", NULL, NULL, arguments, environ);
    printf("waited for %d\n", waitpid(child, NULL, 0) == child);
}

static void hold(size_t size)
{
    char *volatile memory = malloc(size);
    printf("%s\n", memory ? "has it" : "has it not");
    fflush(stdout);
    if (memory)
        memset(memory, 1, size);
}

static void memory(void)
{
    hold(150 << 20);
    start("/bin/child");
}

static void list_environment(void)
{
    for (char **variable = environ; *variable; variable++)
        puts(*variable);
}

static int print_words(int argc, char **argv)
{
    for (int i = 2; i < argc; i++)
        printf("%s%c", argv[i], i + 1 < argc ? ' ' : '\n');
    return 3;
}

int main(int argc, char **argv)
{
    static const struct
    {
        const char *name;
        void (*run)(void);
    } probes[] = {
        {"users", users},
        {"owner", owner},
        {"limits", limits},
        {"machine", machine},
        {"numbers", numbers},
        {"sockets", sockets},
        {"clocks", clocks},
        {"timers", timers},
        {"locks", locks},
        {"nodes", nodes},
        {"modes", modes},
        {"spawn", spawn},
        {"text", text},
        {"environment", list_environment},
        {"mappings", mappings},
        {"scripts", scripts},
        {"stop", stop},
        {"stop-for-good", stop_for_good},
        {"system-files", system_files},
        {"processes", list_processes},
        {"files", files},
        {"place", place},
        {"unix-sockets", unix_sockets},
        {"console", console},
        {"times", times_and_waits},
        {"memory", memory},
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
    if (argc > 1 && strcmp(argv[1], "words") == 0)
        return print_words(argc, argv);
    if (strcmp(argv[0], "/bin/child") == 0)
    {
        hold(140 << 20);
        return 0;
    }
    if (argc != 3 || strcmp(argv[1], "call") != 0)
        return 2;
    say("call", syscall(atol(argv[2]), 0, 0, 0, 0, 0, 0));
    return 0;
}
