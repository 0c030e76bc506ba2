/* What a program sees of users, owners, limits and the machine, as Mystikos tells it; one aspect a command. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
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
#include <time.h>
#include <unistd.h>

extern char **environ;

static void tell(const char *what, long result)
{
    printf("%s: %s\n", what, result < 0 ? strerror(errno) : "done");
}

static void tell_users(void)
{
    uid_t u[3];
    gid_t g[3];
    getresuid(&u[0], &u[1], &u[2]);
    getresgid(&g[0], &g[1], &g[2]);
    printf("%d %d %d, %d %d %d, %d groups\n", u[0], u[1], u[2], g[0], g[1], g[2], getgroups(0, NULL));
}

static int make(const char *path)
{
    return open(path, O_CREAT | O_RDWR, 0666);
}

static void tell_owner(const char *path)
{
    struct stat status;
    if (lstat(path, &status) == 0)
        printf("%s %d %d %o\n", path, status.st_uid, status.st_gid, status.st_mode & 07777);
    else
        printf("%s %s\n", path, strerror(errno));
}

/* What servers do before they serve. */
static int drop(void)
{
    const gid_t groups[] = {1000, 1001};
    tell("setgroups", setgroups(2, groups));
    tell("setgid", setgid(1000));
    tell("setuid", setuid(1000));
    tell_users();
    tell("back", setuid(0));
    make("/tmp/own");
    mkdir("/tmp/directory", 0777);
    tell_owner("/tmp/own");
    tell_owner("/tmp/directory");
    tell("chown", chown("/tmp/own", 0, 0));
    tell("unknown", setuid(4242));
    return 0;
}

/* A child and the program that it becomes are the same user. */
static int inherit(char *self)
{
    char *arguments[] = {self, (char *)"users", NULL};
    pid_t child;
    int status;
    if (setgid(1000) != 0 || setuid(1000) != 0)
        return 1;
    fflush(stdout);
    if (posix_spawn(&child, self, NULL, NULL, arguments, environ) != 0)
        return 1;
    return waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : 1;
}

static int unknown(void)
{
    tell("setuid", setuid(1000));
    tell("setgid", setgid(1000));
    tell("setreuid", setreuid(1000, 1000));
    tell("setresuid", setresuid(1000, 1000, 1000));
    tell_users();
    return 0;
}

static int owners(void)
{
    const int file = make("/tmp/file");
    struct stat status;
    tell("chown", chown("/tmp/file", 1000, 2000));
    tell_owner("/tmp/file");
    tell("fchown", fchown(file, 7, -1));
    tell_owner("/tmp/file");
    fstat(file, &status);
    printf("fstat %d %d\n", status.st_uid, status.st_gid);
    symlink("file", "/tmp/link");
    chdir("/tmp");
    tell("lchown", lchown("link", 5, 6));
    tell_owner("link");
    tell("through the link", fchownat(AT_FDCWD, "link", 8, 9, 0));
    tell_owner("file");
    tell("missing", chown("/tmp/missing", 1, 1));
    return 0;
}

static int limits(void)
{
    struct rlimit limit;
    const struct rlimit small = {10, 10};
    int count = 0;
    for (int i = 0; i < 16; i++)
        if (getrlimit(i, &limit) == 0)
            printf("%d %lld %lld\n", i, (long long)limit.rlim_cur, (long long)limit.rlim_max);
    tell("setrlimit", setrlimit(RLIMIT_NOFILE, &small));
    while (dup(1) >= 0)
        count++;
    printf("%d descriptors: %s\n", count + 3, strerror(errno));
    return 0;
}

static int machine(void)
{
    struct sysinfo info;
    struct utsname names;
    struct statfs files;
    sysinfo(&info);
    uname(&names);
    statfs("/tmp", &files);
    printf("%lu of %u, free %d, %ld MiB by sysconf\n", info.totalram, info.mem_unit, info.freeram < info.totalram,
           sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) >> 20);
    printf("%s %s %s\n", names.nodename, names.release, names.version);
    printf("%lx %ld %ld\n", (unsigned long)files.f_type, (long)files.f_bsize, (long)files.f_bfree);
    tell("sethostname", sethostname("other", 5));
    uname(&names);
    puts(names.nodename);
    tell("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    tell("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    return 0;
}

static int modes(void)
{
    char *arguments[] = {(char *)"script", NULL};
    mkdir("/tmp/closed", 0555);
    tell("create in a directory without w", make("/tmp/closed/file"));
    tell("mkdir in it", mkdir("/tmp/closed/below", 0777));
    tell_owner("/tmp/closed");
    tell_owner("/tmp/closed/file");
    const int file = open("/tmp/script", O_CREAT | O_WRONLY, 0644);
    const char text[] = "#!/bin/inside users\n";
    if (write(file, text, sizeof text - 1) < 0)
        return 1;
    close(file);
    fflush(stdout);
    execv("/tmp/script", arguments);
    return perror("execv"), 1;
}

/* The caller's process group would be group 0. */
static int signal_group(void)
{
    tell("kill(0, SIGTERM)", kill(0, SIGTERM));
    tell("kill(0, 0)", kill(0, 0));
    return 0;
}

static int sleep_long(char *clock)
{
    const struct timespec moment = {0, 1000};
    errno = clock_nanosleep(strcmp(clock, "monotonic") == 0 ? CLOCK_MONOTONIC : CLOCK_REALTIME, 0, &moment, NULL);
    tell("sleep", errno ? -1 : 0);
    return 0;
}

/* Makes processes until there can be no more. */
static int bomb(void)
{
    int count = 0;
    pid_t pid;
    while (count < 5000 && (pid = fork()) >= 0)
    {
        if (pid == 0)
            for (;;)
                pause();
        count++;
    }
    printf("%d: %s\n", count, strerror(errno));
    return 0;
}

/* What works here and not under Mystikos. */
/* What a console has for flags; `ends` says whether the program aborts then, as Node.js does. */
static int flags(int ends)
{
    if (fcntl(1, F_GETFL) < 0 && ends)
        abort();
    return 0;
}

static int told(void)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int ends[2];
    char *page;
    const int file = make("/tmp/mapped"), watch = inotify_init1(IN_NONBLOCK), events = epoll_create1(0);
    if (write(file, "x", 1) != 1 || pipe(ends) != 0)
        return 1;
    for (int i = 0; i < 2; i++)
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    printf("mapped: %c\n", *page);
    tell("watch", inotify_add_watch(watch, "/tmp", IN_CREATE));
    tell("watch of nothing", inotify_add_watch(watch, "/missing", IN_CREATE));
    make("/tmp/created");
    tell("event", read(watch, &event, sizeof event));
    tell("epoll", epoll_ctl(events, EPOLL_CTL_ADD, ends[0], &event));
    return 0;
}

static void try(const char *what, long number, long a, long b, long c, long d)
{
    const long result = syscall(number, a, b, c, d, 0, 0);
    printf("%s: %s\n", what, result < 0 ? strerror(errno) : "done");
}

/* Answers by arguments alone. */
static int rules(void)
{
    int word = 0, option = 0;
    socklen_t size = sizeof option;
    const int file = make("/tmp/locked"), other = make("/tmp/locked");
    struct flock lock = {.l_type = F_WRLCK};
    struct itimerval interval = {0};
    try("lock", SYS_flock, file, LOCK_EX, 0, 0);
    try("lock of another descriptor", SYS_flock, other, LOCK_EX | LOCK_NB, 0, 0);
    try("lock of none", SYS_flock, 77, LOCK_EX, 0, 0);
    try("F_SETLK", SYS_fcntl, file, F_SETLK, (long)&lock, 0);
    try("F_GETLK", SYS_fcntl, file, F_GETLK, (long)&lock, 0);
    try("F_OFD_SETLK", SYS_fcntl, file, F_OFD_SETLK, (long)&lock, 0);
    try("FUTEX_LOCK_PI", SYS_futex, (long)&word, 6, 0, 0);
    try("FUTEX_WAKE", SYS_futex, (long)&word, 1, 1, 0);
    try("ITIMER_PROF", SYS_setitimer, ITIMER_PROF, (long)&interval, 0, 0);
    try("ITIMER_REAL", SYS_setitimer, ITIMER_REAL, (long)&interval, 0, 0);
    try("mkfifo", SYS_mknod, (long)"/tmp/fifo", S_IFIFO | 0644, 0, 0);
    try("open of it", SYS_open, (long)"/tmp/fifo", O_RDONLY | O_NONBLOCK, 0, 0);
    try("mknod", SYS_mknod, (long)"/tmp/node", S_IFREG | 0644, 0, 0);
    try("PR_GET_DUMPABLE", SYS_prctl, 3, 0, 0, 0);
    try("PR_SET_NAME", SYS_prctl, 15, (long)"name", 0, 0);
    try("SO_PEERCRED", SYS_getsockopt, socket(AF_UNIX, SOCK_STREAM, 0), SOL_SOCKET, SO_PEERCRED, (long)&option);
    try("dup2", SYS_dup2, 1, 2048, 0, 0);
    try("bad flags of getrandom", SYS_getrandom, (long)&word, sizeof word, 0x100, 0);
    try("setsid", SYS_setsid, 0, 0, 0, 0);
    try("low mlock", SYS_mlock, 4096, 4096, 0, 0);
    try("shrink", SYS_mremap, (long)mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 8192, 4096, 0);
    printf("group %d of %d, session %d, parent %d, %d\n", getpgrp(), getpid(), getsid(0), getppid(), (int)size);
    return 0;
}

/* Descriptors 0 to 2 are files of the host: 0 to read, 1 to append to. */
static int reach(void)
{
    char text[8] = "";
    tell("reopen 0 to read", open("/proc/self/fd/0", O_RDONLY));
    tell("reopen 0 to write", open("/proc/self/fd/0", O_WRONLY));
    tell("reopen 1 to write", open("/proc/self/fd/1", O_WRONLY));
    tell("reopen 1 to truncate", open("/dev/fd/1", O_WRONLY | O_APPEND | O_TRUNC));
    tell("truncate 1", ftruncate(1, 0));
    tell("append no longer", fcntl(1, F_SETFL, 0));
    tell("punch a hole", syscall(SYS_fallocate, 1, 3, 0L, 4L));
    tell("fchmod 0", fchmod(0, 06777));
    tell("fchmod 1", fchmod(1, 06777));
    tell("chmod 1", chmod("/proc/self/fd/1", 06777));
    symlink("/proc/self/fd/1", "/tmp/one");
    tell("chmod by a link", chmod("/tmp/one", 06777));
    chdir("/proc/self/fd");
    tell("chmod by the directory", fchmodat(AT_FDCWD, "1", 06777, 0));
    tell("read 0", read(0, text, 4));
    printf("%s\n", text);
    return 0;
}

static void *accept_one(void *listening)
{
    return (void *)(intptr_t)accept((int)(intptr_t)listening, NULL, NULL);
}

static void tell_whether(int to, const char *what, int done)
{
    if (done)
        dprintf(to, "%s\n", what);
}

/* What can be done with a descriptor that the caller gave, and not with what it was opened for. */
static int exceed(int given, int to)
{
    static const struct
    {
        const char *name;
        int flags;
    } ways[] = {{"read", O_RDONLY}, {"write", O_WRONLY}, {"read and write", O_RDWR}};
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", given);
    for (int i = 0; i < 3; i++)
    {
        const int file = open(path, ways[i].flags | O_NONBLOCK);
        tell_whether(to, ways[i].name, file >= 0 && (ways[i].flags == O_RDONLY || write(file, "x", 1) == 1));
    }
    tell_whether(to, "open a file in it", openat(given, "etc", O_RDONLY) >= 0);
    tell_whether(to, "enter it", fchdir(given) == 0);
    tell_whether(to, "set its mode", fchmod(given, 0777) == 0 || fchmod(dup(given), 0777) == 0);
    tell_whether(to, "set its mode by its path", chmod(path, 0777) == 0);
    tell_whether(to, "truncate it", ftruncate(given, 0) == 0);
    tell_whether(to, "append no longer", fcntl(given, F_GETFL) & O_APPEND && fcntl(given, F_SETFL, 0) == 0);
    return 0;
}

static int abstract(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0mystikos-test"};
    const socklen_t size = offsetof(struct sockaddr_un, sun_path) + 14;
    const int listening = socket(AF_UNIX, SOCK_STREAM, 0);
    tell("connect to the host's", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, size));
    address.sun_path[1] = 'M';
    tell("bind", bind(listening, (struct sockaddr *)&address, size));
    tell("listen", listen(listening, 1));
    pthread_t thread;
    pthread_create(&thread, NULL, accept_one, (void *)(intptr_t)listening);
    tell("connect to its own", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, size));
    return 0;
}

static int low_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr *const any = (struct sockaddr *)&address;
    const int listening = socket(AF_INET, SOCK_STREAM, 0);
    int port = 1023, result;
    do
        address.sin_port = htons(port);
    while ((result = bind(listening, any, sizeof address)) != 0 && errno == EADDRINUSE && port-- > 900);
    tell("bind below 1024", result);
    if (result != 0)
        return 0;
    tell("listen", listen(listening, 1));
    tell("again", bind(socket(AF_INET, SOCK_STREAM, 0), any, sizeof address));
    tell("no socket", bind(1, any, sizeof address));
    return 0;
}

static int directories(void)
{
    char path[64];
    tell("a file", chdir("/bin/inside"));
    mkdir("/tmp/gone", 0755);
    tell("a directory", chdir("/tmp/gone"));
    rmdir("/tmp/gone");
    puts(getcwd(path, sizeof path) ? path : strerror(errno));
    tell("too short", getcwd(path, 4) ? 0 : -1);
    tell("in it", make("file"));
    return 0;
}

static int change_files(void)
{
    tell("truncate", ftruncate(make("/tmp/file"), 100));
    tell("F_SETFL", fcntl(make("/tmp/file"), F_SETFL, O_NONBLOCK));
    return 0;
}

static int leave_set_id(void)
{
    const int file = open("/mnt/made", O_CREAT | O_WRONLY, 04755);
    tell("create set-id", file);
    make("/mnt/plain");
    tell("chmod set-id", chmod("/mnt/plain", 04755));
    tell("chmod", chmod("/mnt/plain", 0755));
    tell("chmod in the root", chmod("/bin/inside", 04755));
    return 0;
}

static int programs(void)
{
    char *arguments[] = {(char *)"x", NULL};
    const int file = open("/tmp/text", O_CREAT | O_WRONLY, 0755);
    if (write(file, "text\n", 5) != 5)
        return 1;
    close(file);
    tell("a text", execv("/tmp/text", arguments));
    tell("a directory", execv("/tmp", arguments));
    tell("a library", execv("/lib/library.so", arguments));
    return 0;
}

static int main_stack(void)
{
    pthread_attr_t attributes;
    void *start;
    size_t size;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &start, &size);
    printf("%zu KiB\n", size >> 10);
    return 0;
}

static int measure(void)
{
    enum
    {
        CALLS = 20000
    };
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (int i = 0; i < CALLS; i++)
        syscall(SYS_getuid);
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf("%lld ns\n", ((after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec) / CALLS);
    return 0;
}

static volatile sig_atomic_t ended;

static void count_end(int signal)
{
    (void)signal;
    ended++;
}

/* As a shell that starts pipelines: programs end while the next ones are started. Their calls keep process 1 busy. */
static int start_many(char *program)
{
    const struct sigaction action = {.sa_handler = count_end};
    int interrupted = 0;
    sigaction(SIGCHLD, &action, NULL);
    for (int i = 0; i < 150; i++)
    {
        const pid_t child = (pid_t)syscall(SYS_fork); /* fork(3) of musl blocks all signals meanwhile */
        if (child == 0)
            execl(program, program, "look", NULL);
        interrupted += child < 0 && errno == EINTR;
    }
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    printf("%s, %d interrupted\n", ended ? "told" : "not told", interrupted);
    return 0;
}

static volatile sig_atomic_t is_over;

static void end_loop(int signal)
{
    (void)signal;
    is_over = 1;
}

/* Makes calls that process 1 answers until it is told to end. */
static void call_until_end(void)
{
    struct stat status;
    int calls = 0, interrupted = 0;
    for (; !is_over; calls++, usleep(2000))
        interrupted += stat("/bin/inside", &status) != 0 && errno == EINTR;
    printf("%d of %d\n", interrupted, calls);
    exit(0);
}

/* Among so many processes that process 1 is mostly busy with looking at them. */
static int interrupt(void)
{
    const struct sigaction ignored = {.sa_handler = count_end}, last = {.sa_handler = end_loop};
    for (int i = 0; i < 300; i++)
        if (fork() == 0)
            for (;;)
                pause();
    sigaction(SIGUSR1, &ignored, NULL);
    sigaction(SIGTERM, &last, NULL);
    const pid_t child = fork();
    if (child == 0)
        call_until_end();
    for (int i = 0; i < 300; i++, usleep(300))
        kill(child, SIGUSR1);
    kill(child, SIGTERM);
    waitpid(child, NULL, 0);
    return 0;
}

static int look(void)
{
    struct stat status;
    for (int i = 0; i < 20; i++)
        stat("/bin/inside", &status);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "interrupt") == 0)
        return interrupt();
    if (strcmp(what, "start-many") == 0)
        return start_many((char *)"/bin/inside");
    if (strcmp(what, "look") == 0)
        return look();
    if (strcmp(what, "drop") == 0)
        return drop();
    if (strcmp(what, "inherit") == 0)
        return inherit((char *)"/bin/inside");
    if (strcmp(what, "unknown") == 0)
        return unknown();
    if (strcmp(what, "users") == 0)
        return tell_users(), 0;
    if (strcmp(what, "owners") == 0)
        return owners();
    if (strcmp(what, "limits") == 0)
        return limits();
    if (strcmp(what, "machine") == 0)
        return machine();
    if (strcmp(what, "modes") == 0)
        return modes();
    if (strcmp(what, "signal-group") == 0)
        return signal_group();
    if (strcmp(what, "sleep") == 0)
        return sleep_long(argv[2]);
    if (strcmp(what, "bomb") == 0)
        return bomb();
    if (strcmp(what, "told") == 0)
        return told();
    if (strcmp(what, "flags") == 0)
        return flags(argc > 2);
    if (strcmp(what, "rules") == 0)
        return rules();
    if (strcmp(what, "exceed") == 0)
        return exceed(atoi(argv[2]), atoi(argv[3]));
    if (strcmp(what, "reach") == 0)
        return reach();
    if (strcmp(what, "abstract") == 0)
        return abstract();
    if (strcmp(what, "low-port") == 0)
        return low_port();
    if (strcmp(what, "directories") == 0)
        return directories();
    if (strcmp(what, "change-files") == 0)
        return change_files();
    if (strcmp(what, "leave-set-id") == 0)
        return leave_set_id();
    if (strcmp(what, "programs") == 0)
        return programs();
    if (strcmp(what, "main-stack") == 0)
        return main_stack();
    if (strcmp(what, "crash") == 0)
        return stat((const char *)(uintptr_t)16, &(struct stat){0});
    if (strcmp(what, "measure") == 0)
        return measure();
    if (strcmp(what, "arguments") == 0)
        return printf("%d arguments\n", argc), 0;
    if (strcmp(what, "environment") == 0)
    {
        for (char **variable = environ; *variable; variable++)
            puts(*variable);
        return 0;
    }
    return 2;
}
