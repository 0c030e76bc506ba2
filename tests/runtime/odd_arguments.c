/* Makes system calls with arguments that Mystikos' kernel judges otherwise than Linux; one subject a command. Each line
 * is what was asked and what came of it. */
#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static const char *name_of(int error)
{
    static const struct
    {
        int error;
        const char *name;
    } names[] = {{ERANGE, "ERANGE"},
                 {EPERM, "EPERM"},
                 {ENOENT, "ENOENT"},
                 {ESRCH, "ESRCH"},
                 {EBADF, "EBADF"},
                 {ECHILD, "ECHILD"},
                 {EFAULT, "EFAULT"},
                 {EROFS, "EROFS"},
                 {ENOSYS, "ENOSYS"},
                 {ENOTDIR, "ENOTDIR"},
                 {EISDIR, "EISDIR"},
                 {EINVAL, "EINVAL"},
                 {ENOTTY, "ENOTTY"},
                 {ENOTSUP, "ENOTSUP"},
                 {EMSGSIZE, "EMSGSIZE"},
                 {ENOTCONN, "ENOTCONN"},
                 {EAFNOSUPPORT, "EAFNOSUPPORT"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].error == error)
            return names[i].name;
    return strerror(error);
}

static void tell(const char *what, long result)
{
    if (result < 0)
        printf("%s: %s\n", what, name_of(errno));
    else
        printf("%s: %ld\n", what, result);
}

static int descriptors(void)
{
    int pipes[2], file = open("/tmp/file", O_RDWR | O_CREAT | O_APPEND, 0644), directory = open("/tmp", O_RDONLY);
    struct stat status;
    char byte = 0;
    const int counter = eventfd(0, 0);
    struct statfs system;
    struct termios terminal;
    struct winsize window;
    const struct iovec part = {&byte, 1};
    int number;
    pipe(pipes);
    tell("dup of 5000", dup(5000));
    tell("dup2 of -1", dup2(-1, 9));
    tell("dup3 of 5000", dup3(5000, 9, 0));
    tell("F_DUPFD of 5000", fcntl(5000, F_DUPFD, 3));
    tell("F_DUPFD from itself on", fcntl(file, F_DUPFD, file) - file);
    tell("F_GETFD of 5000", fcntl(5000, F_GETFD));
    tell("F_GETFL", fcntl(file, F_GETFL));
    tell("F_SETFL adds", fcntl(file, F_SETFL, 0) < 0 ? -1 : fcntl(file, F_GETFL));
    tell("F_GETPIPE_SZ of a file", fcntl(file, F_GETPIPE_SZ));
    tell("F_GETPIPE_SZ of a pipe", fcntl(pipes[0], F_GETPIPE_SZ));
    tell("F_ADD_SEALS", fcntl(file, 1033, 0));
    tell("command 12", fcntl(file, 12, 0));
    tell("flock of nothing", syscall(SYS_flock, -1, 2));
    tell("fallocate of nothing", syscall(SYS_fallocate, 99, 0, 0l, 10l));
    tell("fallocate", fallocate(file, 0, 0, 100) != 0 || fstat(file, &status) != 0 ? -1 : (long)status.st_size);
    tell("ftruncate of a directory", ftruncate(directory, 0));
    tell("ftruncate of a pipe", ftruncate(pipes[1], 0));
    tell("fchdir to a file", syscall(SYS_fchdir, file));
    tell("fchdir to a pipe", syscall(SYS_fchdir, pipes[0]));
    tell("fchown of a pipe", syscall(SYS_fchown, pipes[0], 1, 1));
    tell("fchown of -1", syscall(SYS_fchown, -1, 1, 1));
    tell("fstatfs of a pipe", syscall(SYS_fstatfs, pipes[0], &system));
    tell("fstatfs to nowhere", syscall(SYS_fstatfs, file, 0));
    tell("FIONREAD of a file", ioctl(file, FIONREAD, &number));
    tell("TCGETS of a file", ioctl(file, TCGETS, &terminal));
    tell("TIOCGWINSZ of a file", ioctl(file, TIOCGWINSZ, &window));
    tell("TIOCGWINSZ of a pipe", ioctl(pipes[0], TIOCGWINSZ, &window));
    tell("FIGETBSZ of a file", ioctl(file, 2, &number));
    tell("FIOCLEX of a file", ioctl(file, FIOCLEX) != 0 ? -1 : fcntl(file, F_GETFD));
    tell("FIONBIO of a counter", ioctl(counter, FIONBIO, &number));
    tell("sendfile to -1", sendfile(-1, file, NULL, 1));
    tell("copy to -1", syscall(SYS_copy_file_range, file, 0, -1, 0, 1, 0));
    tell("nothing from nowhere", write(file, NULL, 0));
    tell("something from nowhere", write(file, NULL, 1));
    tell("something from below", write(-1, (char *)(uintptr_t)16, 1));
    tell("read from nowhere", syscall(SYS_pread64, 999, 0, 1, 0));
    tell("write from nowhere", syscall(SYS_pwrite64, 999, 0, 1, 0));
    tell("random for nowhere", syscall(SYS_getrandom, 0, 5, 0));
    tell("random with flags that exclude each other", syscall(SYS_getrandom, &status, 8, 6));
    tell("reading with a flag", preadv2(file, &part, 1, 0, RWF_NOWAIT));
    tell("writing with a flag", pwritev2(file, &part, 1, 0, RWF_DSYNC));
    tell("position of a console", pread(1, &byte, 1, 0));
    return 0;
}

/* Descriptors 1 and 2 are pipes to the package, and 0 is the machine's /dev/null. */
static int consoles(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct flock lock = {.l_type = F_WRLCK};
    struct winsize window;
    const int epoll = epoll_create1(0), device = open("/dev/null", O_RDWR);
    int pipes[2];
    pipe(pipes);
    tell("flags", fcntl(1, F_GETFL));
    tell("flags of a duplicate", fcntl(dup(2), F_GETFL));
    tell("setting flags", fcntl(1, F_SETFL, O_NONBLOCK));
    tell("closing on exec", fcntl(2, F_GETFD));
    tell("a lock", fcntl(1, F_SETLK, &lock));
    tell("a mode", fchmod(1, 0600));
    tell("a mode of a pipe", fchmod(pipes[0], 0600));
    tell("times", syscall(SYS_utimensat, 1, 0, 0, 0));
    tell("times of a pipe", syscall(SYS_utimensat, pipes[0], 0, 0, 0));
    tell("epoll", epoll_ctl(epoll, EPOLL_CTL_ADD, 1, &event));
    tell("entries", syscall(SYS_getdents64, 1, &window, sizeof window));
    tell("entries of a pipe", syscall(SYS_getdents64, pipes[0], &window, sizeof window));
    tell("flags of a device with a name", fcntl(device, F_GETFL));
    tell("window of a device with a name", ioctl(device, TIOCGWINSZ, &window));
    tell("fsync of a device with a name", fsync(device));
    tell("fsync of a console", fsync(0));
    return 0;
}

static int watches(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    const int watcher = inotify_init1(0), other = inotify_init1(0), file = open("/tmp", O_RDONLY);
    tell("first", inotify_add_watch(watcher, "/tmp", IN_CREATE));
    tell("second", inotify_add_watch(watcher, "/", IN_CREATE));
    tell("first again", inotify_add_watch(watcher, "/tmp", IN_DELETE));
    tell("of another", inotify_add_watch(other, "/tmp", IN_CREATE));
    tell("remove", inotify_rm_watch(watcher, 2049));
    tell("remove again", inotify_rm_watch(watcher, 2049));
    tell("by a file", inotify_add_watch(file, "/tmp", IN_CREATE));
    tell("remove by a file", inotify_rm_watch(file, 2048));
    tell("by nothing", inotify_add_watch(999, "/tmp", IN_CREATE));
    tell("epoll", epoll_ctl(epoll_create1(0), EPOLL_CTL_ADD, watcher, &event));
    return 0;
}

static int paths(void)
{
    struct stat status;
    struct statfs system;
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    const int file = open("/tmp/program", O_RDWR | O_CREAT, 0755), directory = open("/tmp", O_RDONLY);
    time_t before;
    tell("mkdir of nowhere", syscall(SYS_mkdir, 0, 0));
    tell("mkdirat of nowhere", syscall(SYS_mkdirat, AT_FDCWD, 0, 0));
    tell("symlink to nowhere", syscall(SYS_symlink, "x", 0));
    tell("unlinkat of nowhere", syscall(SYS_unlinkat, AT_FDCWD, 0, 0));
    tell("unlinkat with a flag", syscall(SYS_unlinkat, AT_FDCWD, "/tmp/none", 0x1000));
    tell("stat to nowhere", syscall(SYS_stat, "/tmp", 0));
    tell("stat of none to nowhere", syscall(SYS_stat, "/none", 0));
    tell("statfs of an empty path", syscall(SYS_statfs, "", &system));
    tell("statfs to nowhere", syscall(SYS_statfs, "/tmp", 0));
    tell("fstatat with AT_EMPTY_PATH and a path",
         fstatat(directory, "none", &status, AT_EMPTY_PATH) != 0 ? -1 : S_ISDIR(status.st_mode));
    tell("fstatat with AT_EMPTY_PATH and none", syscall(SYS_newfstatat, file, 0, &status, AT_EMPTY_PATH));
    tell("link to a descriptor", linkat(file, "", AT_FDCWD, "/tmp/link", AT_EMPTY_PATH));
    tell("symlink in place of a file", symlink("none", "/tmp/program"));
    tell("which stays", stat("/tmp/program", &status) != 0 ? -1 : S_ISREG(status.st_mode));
    tell("mknod of a file", syscall(SYS_mknod, 0, 0100644, 0));
    tell("mknod of every kind", syscall(SYS_mknod, "/tmp/x", ~0u, 0));
    fstat(file, &status);
    before = status.st_mtime;
    mkdir("/tmp/full", 0755);
    mkdir("/tmp/full/empty", 0755);
    tell("unlink of a full directory", unlink("/tmp/full"));
    tell("unlink of an empty one", unlink("/tmp/full/empty"));
    tell("readlink to nowhere", syscall(SYS_readlink, "/tmp", 0, 5));
    tell("entries for nowhere", syscall(SYS_getdents64, directory, 0, 1000));
    tell("entries of an empty file", syscall(SYS_getdents64, file, &system, 1000));
    tell("futimens", futimens(file, times));
    fstat(file, &status);
    tell("last use", status.st_atime);
    tell("last change stays", status.st_mtime == before);
    chmod("/tmp/program", 06755);
    tell("chown", chown("/tmp/program", 1, 1));
    fstat(file, &status);
    printf("mode: %o\n", status.st_mode & 07777);
    return 0;
}

static void *sleep_on(void *nothing)
{
    pause();
    return nothing;
}

static int processes(void)
{
    struct utsname system;
    struct sysinfo info;
    pthread_t thread;
    siginfo_t signal;
    cpu_set_t *none = NULL;
    struct sched_param *parameters = NULL;
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct
    {
        long head[3];
    } list;
    void *head;
    size_t size;
    tell("wait4 with __WALL", syscall(SYS_wait4, -1, 0, 0x40000000, 0));
    tell("waitid of a pidfd", syscall(SYS_waitid, 3, 0, &signal, WEXITED, 0));
    tell("waitid with another flag", syscall(SYS_waitid, 0, 0, &signal, 0x40000000, 0));
    tell("getpgid of the parent", getpgid(getppid()));
    tell("getpgid", getpgid(getpid()) == getpid());
    tell("signal 100", syscall(SYS_tkill, getpid(), 100));
    tell("what SIGKILL does", syscall(SYS_rt_sigaction, SIGKILL, 0, 0, 8));
    tell("what SIGSTOP does", syscall(SYS_rt_sigaction, SIGSTOP, 0, 0, 8));
    tell("wake none", syscall(SYS_futex, &size, FUTEX_WAKE, 0));
    tell("wake -1", syscall(SYS_futex, &size, FUTEX_WAKE_PRIVATE, -1));
    tell("usage to nowhere", syscall(SYS_getrusage, RUSAGE_THREAD, 0));
    tell("setitimer of nothing", syscall(SYS_setitimer, ITIMER_REAL, 0, 0));
    tell("no name", prctl(PR_SET_NAME, 0));
    tell("signal of the parent's death", prctl(PR_SET_PDEATHSIG, 9999));
    tell("arch_prctl to nowhere", syscall(SYS_arch_prctl, ARCH_GET_FS, 0));
    tell("ARCH_SET_GS", syscall(SYS_arch_prctl, ARCH_SET_GS, 4096));
    tell("affinity of nowhere", sched_setaffinity(0, sizeof(cpu_set_t), none));
    tell("parameters for nowhere", syscall(SYS_sched_getparam, 0, parameters));
    tell("parameters of -1", syscall(SYS_sched_getparam, -1, parameters));
    tell("select of -1", syscall(SYS_select, -1, 0, 0, 0, ~0ul));
    tell("madvise of nowhere", madvise(NULL, 4096, MADV_NORMAL));
    tell("mlock of what is not there", syscall(SYS_mlock, page + (1l << 40), 4096));
    tell("msync of nothing", msync(page, 0, MS_SYNC));
    tell("msync of what is not there", msync(page + (1l << 40), 4096, MS_SYNC));
    tell("mmap at an odd hint", (long)mmap(page + 1, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    tell("mmap of shared memory in place",
         (long)mmap(page, 4096, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS, -1, 0));
    tell("robust list", syscall(SYS_set_robust_list, &list, sizeof list));
    tell("robust list of none", syscall(SYS_get_robust_list, 9999, &head, &size));
    sethostname("another", 3);
    uname(&system);
    printf("host name: %s\n", system.nodename);
    pthread_create(&thread, NULL, sleep_on, NULL);
    sysinfo(&info);
    tell("threads", info.procs);
    return 0;
}

static int sockets(void)
{
    static char much[80 << 10];
    struct epoll_event event = {.events = EPOLLIN};
    struct sockaddr_un address;
    socklen_t size = sizeof address;
    int pair[2], number = 1, file = open("/tmp", O_RDONLY);
    const int local = socket(AF_UNIX, SOCK_STREAM, 0), inet = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct timeval time = {.tv_sec = 1};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    tell("Bluetooth", socket(31, SOCK_STREAM, 0));
    tell("cryptography", socket(38, SOCK_SEQPACKET, 0));
    tell("no type", socket(AF_INET, 0, 0));
    tell("Unix, reliable datagrams", socket(AF_UNIX, SOCK_RDM, 0));
    tell("Unix, protocol 1", socket(AF_UNIX, SOCK_STREAM, 1));
    tell("pair of no domain", syscall(SYS_socketpair, 0, 1, 0, 0));
    tell("listen without a name", listen(local, 1));
    tell("peer of nobody", getpeername(local, (struct sockaddr *)&address, &size));
    tell("peer of an Internet socket", getpeername(inet, (struct sockaddr *)&address, &size));
    tell("SO_KEEPALIVE", setsockopt(local, SOL_SOCKET, SO_KEEPALIVE, &number, sizeof number));
    tell("SO_RCVTIMEO", setsockopt(local, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    tell("SO_SNDTIMEO", setsockopt(local, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
    size = sizeof number;
    tell("SO_DOMAIN", getsockopt(local, SOL_SOCKET, SO_DOMAIN, &number, &size));
    tell("SO_KEEPALIVE of an Internet socket", setsockopt(inet, SOL_SOCKET, SO_KEEPALIVE, &number, sizeof number));
    tell("a large message", send(pair[0], much, sizeof much, 0));
    tell("a message from nowhere", sendto(pair[0], NULL, 5, 0, NULL, 0));
    tell("an address of -1 bytes", sendto(pair[0], much, 5, 0, (struct sockaddr *)&address, (socklen_t)-1));
    tell("receive to nowhere", recvfrom(pair[0], NULL, 5, 0, NULL, NULL));
    tell("SIOCATMARK", ioctl(pair[0], 0x8905, &number));
    tell("epoll_ctl without an event", epoll_ctl(epoll, EPOLL_CTL_DEL, pair[0], NULL));
    tell("epoll_ctl of a file", epoll_ctl(file, EPOLL_CTL_ADD, pair[0], &event));
    tell("epoll_wait to nowhere", syscall(SYS_epoll_wait, epoll, 0, 5, 0));
    address = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "/tmp/socket"};
    bind(local, (struct sockaddr *)&address, sizeof address);
    for (number = 0; listen(local, 1) == 0 && number < 100; number++)
        continue;
    tell("one more that listens", listen(local, 1));
    tell("before", number);
    return 0;
}

static void tell_users(const char *what, long result)
{
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    printf("%s: %s, now %u %u %u\n", what, result < 0 ? name_of(errno) : "ok", real, effective, saved);
}

/* By raw calls, since the C library makes its own of some. */
static int users(void)
{
    tell_users("setuid 4242", syscall(SYS_setuid, 4242));
    tell_users("setresuid -1 1000 -1", syscall(SYS_setresuid, -1, 1000, -1));
    tell_users("setuid 4242", syscall(SYS_setuid, 4242));
    tell_users("setuid 1000", syscall(SYS_setuid, 1000));
    tell_users("setreuid 1000 0", syscall(SYS_setreuid, 1000, 0));
    tell_users("setreuid 4242 -1", syscall(SYS_setreuid, 4242, -1));
    tell_users("setreuid -1 1000", syscall(SYS_setreuid, -1, 1000));
    tell_users("setresuid 1000 1001 1000", syscall(SYS_setresuid, 1000, 1001, 1000));
    tell_users("setresuid 0 -1 -1", syscall(SYS_setresuid, 0, -1, -1));
    tell_users("setuid 0", syscall(SYS_setuid, 0));
    return 0;
}

static int modes(void)
{
    const int file = open("/tmp/of_0", O_RDWR | O_CREAT, 0644);
    mkdir("/tmp/directory_of_0", 0755);
    syscall(SYS_setresuid, -1, 1000, -1);
    tell("chmod", chmod("/tmp/of_0", 0600));
    tell("fchmod", fchmod(file, 0600));
    tell("fchmodat", fchmodat(AT_FDCWD, "/tmp/of_0", 0600, 0));
    tell("of a directory", chmod("/tmp/directory_of_0", 0700));
    tell("of its own", fchmod(open("/tmp/own", O_RDWR | O_CREAT, 0644), 0600));
    syscall(SYS_setresuid, -1, 0, -1);
    tell("by user 0", chmod("/tmp/own", 0640));
    return 0;
}

static void tell_group(const char *who)
{
    struct rlimit limit;
    printf("%s: group %d, ", who, getpgrp());
    tell("session", setsid() < 0 ? -1 : getsid(0) == getpid());
    tell("limit of the parent", prlimit(getppid(), RLIMIT_NOFILE, NULL, &limit));
    fflush(stdout);
}

static volatile sig_atomic_t caught;

static void catch_it(int signal)
{
    caught += signal == SIGUSR1;
}

/* Whether it came to the process itself. */
static void tell_signal(const char *what, pid_t target)
{
    caught = 0;
    tell(what, kill(target, SIGUSR1));
    printf("  came: %d\n", (int)caught);
}

/* A process that waits for its end, in a group of its own or in the program's. */
static pid_t make_waiting(bool is_apart)
{
    int ready[2];
    char byte = 0;
    pipe(ready);
    const pid_t child = fork();
    if (child == 0)
    {
        signal(SIGTERM, SIG_DFL);
        alarm(5);
        if (is_apart)
            setpgid(0, 0);
        write(ready[1], &byte, 1);
        for (;;)
            pause();
    }
    read(ready[0], &byte, 1);
    return child;
}

static void tell_end(const char *what, pid_t child)
{
    int status;
    waitpid(child, &status, 0);
    printf("%s: ended by %d\n", what, WTERMSIG(status));
}

static int signals(void)
{
    signal(SIGUSR1, catch_it);
    tell_signal("others of the group", 0);
    tell_signal("all", -1);
    tell_signal("the group by its number", -getpgrp());
    tell_signal("a group that is not there", -77);
    const pid_t other = make_waiting(false), apart = make_waiting(true);
    tell("no signal to the others", kill(0, 0));
    tell("no signal to the group apart", kill(-apart, 0));
    tell("signal to the others", kill(0, SIGTERM));
    tell_end("other", other);
    tell("others", kill(0, SIGTERM));
    tell("signal to the group apart", kill(-apart, SIGINT));
    tell_end("apart", apart);
    return 0;
}

static int groups(void)
{
    const pid_t child = fork();
    if (child == 0)
    {
        tell_group("child");
        const pid_t grandchild = fork();
        if (grandchild == 0)
            tell_group("grandchild");
        else
            waitpid(grandchild, NULL, 0);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return 0;
}

/* Executes this program by a path, as another name and with more arguments. */
static void tell_first(const char *path, int more)
{
    char *arguments[100] = {"another", "first"};
    pid_t child;
    for (int i = 0; i < more; i++)
        arguments[2 + i] = "more";
    fflush(stdout);
    errno = posix_spawn(&child, path, NULL, NULL, arguments, environ);
    if (errno)
        tell(path, -1);
    else
        waitpid(child, NULL, 0);
}

static int programs(void)
{
    symlink("/bin/odd", "/tmp/link");
    tell_first("/bin/odd", 0);
    tell_first("/bin/odd", 90);
    tell_first("/tmp/link", 0);
    tell_first("/bin/../bin/odd", 0);
    chdir("/bin");
    tell_first("odd", 1);
    tell_first("./../tmp//link", 0);
    tell_first("none", 0);
    const int script = open("/tmp/script", O_CREAT | O_WRONLY, 0755);
    write(script, "#!/bin/odd first\n", 17);
    close(script);
    chdir("/tmp");
    tell_first("./script", 0);
    return 0;
}

static int tell_executable(void)
{
    char path[100] = "";
    const ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    return printf("%s\n", size < 0 ? "nothing" : path) < 0;
}

/* What /proc/self/exe leads to in a process that has executed a program, and another one later. */
static int executables(void)
{
    char *arguments[] = {"odd", "link", NULL};
    symlink("/bin/odd", "/tmp/other");
    for (int i = 0; i < 2; i++)
    {
        const pid_t child = fork();
        if (child == 0)
            execv(i ? "/bin/./odd" : "/tmp/other", arguments);
        waitpid(child, NULL, 0);
    }
    execv("/tmp/none", arguments);
    execv("/tmp/other", arguments);
    return 1;
}

static int entries(void)
{
    char text[1000];
    const int file = open("/etc/passwd", O_RDONLY);
    return (int)syscall(SYS_getdents64, file, text, sizeof text);
}

static int crash(void)
{
    return (int)syscall(SYS_uname, 0);
}

int main(int argc, char **argv)
{
    static const struct
    {
        const char *name;
        int (*run)(void);
    } subjects[] = {{"consoles", consoles},
                    {"watches", watches},
                    {"descriptors", descriptors},
                    {"paths", paths},
                    {"processes", processes},
                    {"sockets", sockets},
                    {"users", users},
                    {"modes", modes},
                    {"signals", signals},
                    {"groups", groups},
                    {"entries", entries},
                    {"programs", programs},
                    {"executables", executables},
                    {"crash", crash}};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc >= 2 && strcmp(argv[1], "link") == 0)
        return tell_executable();
    if (argc >= 2 && strcmp(argv[1], "first") == 0)
        return printf("%s and %d more, %s\n", argv[0], argc - 2, argc > 2 ? argv[2] : "none") < 0;
    for (size_t i = 0; argc == 2 && i < sizeof subjects / sizeof *subjects; i++)
        if (strcmp(argv[1], subjects[i].name) == 0)
            return subjects[i].run();
    return 2;
}
