/* Tries ways out of the sandbox, by the name of each, and tells what came of it. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#define HAND_OVER (MSG_NOSIGNAL | MSG_EOR) /* as rules.h has it */
#define NO_APPEND 0x20                     /* RWF_NOAPPEND */

static int out = 1;

static void tell(const char *what, long result)
{
    dprintf(out, "%s: %s\n", what, result < 0 ? strerror(errno) : "done");
}

/* Descriptor 0 is to be read, 1 to be appended to; told is to 2. */
static int files(char **argv)
{
    const int read_only = dup(0), appended = dup(1);
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    const struct timeval in_microseconds[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    const struct utimbuf in_seconds = {1, 1};
    const struct iovec text = {(void *)"EVIL", 4};
    int flags = 0x40; /* FS_NODUMP_FL */
    (void)argv;
    out = 2;
    tell("write before the end", syscall(SYS_pwritev2, 1, &text, 1, 0l, 0l, NO_APPEND));
    tell("attributes", ioctl(read_only, _IOW('f', 2, long), &flags));
    tell("attributes of what is appended to", ioctl(appended, _IOW('f', 2, long), &flags));
    tell("times", futimens(read_only, times));
    tell("times of what is appended to", futimens(appended, times));
    tell("times by a path", utimensat(AT_FDCWD, "/proc/self/fd/0", times, 0));
    tell("times by another path", utimensat(AT_FDCWD, "/dev/fd/0", times, 0));
    tell("times without a path", syscall(SYS_utimensat, read_only, "", times, AT_EMPTY_PATH));
    tell("utime", utime("/proc/self/fd/0", &in_seconds));
    tell("utimes", utimes("/proc/self/fd/0", in_microseconds));
    tell("futimesat", syscall(SYS_futimesat, read_only, NULL, in_microseconds));
    return 0;
}

/* Descriptor 1 is to be read and appended to. */
static int map(char **argv)
{
    char *memory = mmap(NULL, 4, PROT_READ, MAP_SHARED, 1, 0);
    (void)argv;
    out = 2;
    tell("map", memory == MAP_FAILED ? -1 : 0);
    tell("make it writable", mprotect(memory, 4, PROT_READ | PROT_WRITE));
    memcpy(memory, "EVIL", 4);
    tell("write it back", msync(memory, 4096, MS_SYNC));
    return 0;
}

static void tell_times(int file)
{
    struct stat status;
    fstat(file, &status);
    const bool is_now = labs((long)(time(NULL) - status.st_atim.tv_sec)) < 60;
    printf("%ld.%ld, %s\n", is_now ? 0 : (long)status.st_atim.tv_sec, is_now ? 0 : status.st_atim.tv_nsec,
           labs((long)(time(NULL) - status.st_mtim.tv_sec)) < 60 ? "now" : "earlier");
}

static int own_times(char **argv)
{
    const struct timespec times[2] = {{.tv_sec = 1, .tv_nsec = 5}, {.tv_sec = 2, .tv_nsec = 7}};
    const struct timespec now_and_then[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    const struct timeval in_microseconds[2] = {{.tv_sec = 3, .tv_usec = 4}, {.tv_sec = 5, .tv_usec = 6}};
    const struct timeval wrong[2] = {{.tv_sec = 3, .tv_usec = 4000000}, {.tv_sec = 5}};
    const struct utimbuf in_seconds = {7, 8};
    (void)argv;
    const int file = open("/tmp/file", O_RDWR | O_CREAT, 0644);
    symlink("file", "/tmp/link");
    tell("utimensat", utimensat(AT_FDCWD, "/tmp/file", times, 0));
    tell_times(file);
    tell("utimes", utimes("/tmp/file", in_microseconds));
    tell_times(file);
    tell("wrong", utimes("/tmp/file", wrong));
    tell("utime", utime("/tmp/file", &in_seconds));
    tell_times(file);
    tell("a link", utimensat(AT_FDCWD, "/tmp/link", times, AT_SYMLINK_NOFOLLOW));
    tell("one of them", futimens(file, now_and_then));
    tell("now", futimens(file, NULL));
    tell_times(file);
    tell("missing", utimensat(AT_FDCWD, "/tmp/missing", times, 0));
    tell("no descriptor", syscall(SYS_utimensat, 77, NULL, times, 0));
    return 0;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

/* Of the host: the paths of one that listens, and of one that takes datagrams. */
static int sockets(char **argv)
{
    struct sockaddr_un listening = address_of(argv[2]), datagrams = address_of(argv[3]);
    const int stream = socket(AF_UNIX, SOCK_STREAM, 0), one = socket(AF_UNIX, SOCK_DGRAM, 0),
              other = socket(AF_UNIX, SOCK_DGRAM, 0);
    int pair[2];
    struct iovec text = {(void *)"x", 1};
    struct msghdr message = {
        .msg_name = &datagrams, .msg_namelen = sizeof datagrams, .msg_iov = &text, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
    tell("connect", connect(stream, (struct sockaddr *)&listening, sizeof listening));
    tell("connect for datagrams", connect(one, (struct sockaddr *)&datagrams, sizeof datagrams));
    tell("sendto", sendto(other, "x", 1, 0, (struct sockaddr *)&datagrams, sizeof datagrams));
    tell("sendto as to IPv4", sendto(other, "x", 1, 0, (struct sockaddr *)&datagrams, sizeof(struct sockaddr)));
    tell("sendmsg", sendmsg(other, &message, 0));
    tell("sendmsg as at the start", sendmsg(other, &message, HAND_OVER));
    tell("sendmmsg", syscall(SYS_sendmmsg, other, &messages, 1, 0));
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    tell("sendmsg from a pair", sendmsg(pair[0], &message, 0));
    message.msg_name = NULL;
    message.msg_namelen = 0;
    tell("within a pair", sendmsg(pair[0], &message, 0));
    tell("from a pair", read(pair[1], &(char){0}, 1));
    return 0;
}

static void put(const char *path, const char *text)
{
    const int file = open(path, O_WRONLY);
    if (file >= 0 && write(file, text, strlen(text)) >= 0)
        printf("%s was written\n", path);
    if (file >= 0)
        close(file);
}

/* The directory that tells of processes. */
static int processes(char **argv)
{
    static const char *const names[] = {"autogroup", "oom_score_adj", "comm",          "sched",          "clear_refs",
                                        "loginuid",  "projid_map",    "timerslack_ns", "coredump_filter"};
    char path[64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int first = 0; first < 2; first++)
        {
            snprintf(path, sizeof path, "%s/%s/%s", argv[2], first ? "1" : "self", names[i]);
            put(path, "1");
        }
    puts("tried");
    return 0;
}

static char path[64];

static void *change_path(void *between)
{
    char **paths = between;
    for (int i = 0;; i ^= 1)
        memcpy(path, paths[i], strlen(paths[i]) + 1);
    return NULL;
}

/* While a thread changes the path from one of the root to one of the host. */
static int change_while_opened(char **argv)
{
    pthread_t thread;
    strcpy(path, argv[2]);
    pthread_create(&thread, NULL, change_path, argv + 2);
    for (int i = 0; i < atoi(argv[4]); i++)
    {
        close(open(path, O_CREAT | O_WRONLY, 06755));
        if (i % 2) /* the one of the root is there or not */
            unlink(argv[2]);
    }
    puts("tried");
    fflush(stdout);
    _exit(0);
}

/* Where the program has Linux as it is, or may make any call. */
static int more_calls(char **argv)
{
    char parameters[120] = {0};
    const uint64_t how[3] = {O_CREAT | O_WRONLY, 06755, 0};
    tell("open", open(argv[2], O_CREAT | O_WRONLY, 06755));
    tell("creat", syscall(SYS_creat, argv[2], 06755));
    tell("without a name", open(argv[3], 020000000 | O_DIRECTORY | O_WRONLY, 06755));
    tell("mknod", mknod(argv[2], S_IFREG | 06755, 0));
    tell("openat2", syscall(437, AT_FDCWD, argv[2], how, sizeof how));
    tell("io_uring_setup", syscall(425, 4, parameters));
    tell("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    tell("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    tell("request_key", syscall(SYS_request_key, "user", "x", "y", -3));
    tell("priority of the group", setpriority(PRIO_PGRP, 0, 19));
    tell("I/O priority of the group", syscall(SYS_ioprio_set, 2, 0, 3 << 13));
    tell("own priority", setpriority(PRIO_PROCESS, 0, 19));
    return 0;
}

static int kill_all(char **argv)
{
    (void)argv;
    tell("kill(-1, SIGKILL)", kill(-1, SIGKILL));
    return 0;
}

static int terminal(char **argv)
{
    const int number = 2, copy = dup(0);
    (void)argv;
    tell("type", ioctl(copy, TIOCSTI, "x"));
    tell("another discipline", ioctl(copy, TIOCSETD, &number));
    tell("for nobody else", ioctl(copy, TIOCEXCL));
    return 0;
}

/* So many processes, each with as many MiB of memory that it would share with its children. */
static int share(char **argv)
{
    int ends[2], had = 0;
    const int count = atoi(argv[2]);
    const size_t size = (size_t)atoi(argv[3]) << 20;
    char told;
    pipe(ends);
    for (int i = 0; i < count; i++)
    {
        if (fork() == 0)
        {
            char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            told = memory != MAP_FAILED;
            if (told)
                memset(memory, 1, size);
            write(ends[1], &told, 1);
            pause();
        }
        read(ends[0], &told, 1);
        had += told;
    }
    printf("%d of %d\n", had, count);
    fflush(stdout);
    kill(0, SIGKILL);
    return 0;
}

static const struct
{
    const char *name;
    int (*run)(char **argv);
} ways[] = {
    {"files", files},           {"map", map},
    {"own-times", own_times},   {"sockets", sockets},
    {"processes", processes},   {"change-while-opened", change_while_opened},
    {"more-calls", more_calls}, {"kill-all", kill_all},
    {"terminal", terminal},     {"share", share},
};

int main(int argc, char **argv)
{
    if (argc < 2)
        return 3;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strcmp(ways[i].name, argv[1]) == 0)
            return ways[i].run(argv);
    return 4;
}
