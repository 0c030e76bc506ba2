/* What a program finds where Mystikos does otherwise than Linux, as recorded; one aspect a command. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void tell(const char *what, long result)
{
    if (result < 0)
        printf("%s: %s\n", what, strerror(errno));
    else
        printf("%s: %ld\n", what, result);
}

static int make(const char *path, const char *content)
{
    const int file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0644);
    return write(file, content, strlen(content)) == (ssize_t)strlen(content) ? file : -1;
}

static int names(void)
{
    char text[PATH_MAX];
    gethostname(text, sizeof text);
    printf("host <%s>\n", text);
    printf("directory %s\n", getcwd(text, sizeof text) ? text : strerror(errno));
    for (char **variable = environ; *variable; variable++)
        printf("<%s>\n", *variable);
    return 0;
}

static int positions(void)
{
    const int file = make("/tmp/file", "0123456789"), directory = open("/tmp", O_RDONLY);
    off_t from = 0, to = 2;
    tell("behind the end", lseek(file, 2 << 20, SEEK_SET));
    tell("far behind it", lseek(file, 1, SEEK_END));
    tell("the end", lseek(file, 0, SEEK_END));
    tell("data", lseek(file, 0, SEEK_DATA));
    tell("a hole", lseek(file, 0, SEEK_HOLE));
    tell("end of a directory", lseek(directory, 0, SEEK_END));
    tell("a file of 1 TiB", ftruncate(file, 1l << 40));
    tell("making a hole", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    tell("copy over itself", copy_file_range(file, &from, file, &to, 5, 0));
    char content[16] = "";
    tell("content", pread(file, content, sizeof content, 0));
    printf("%s, %d, %d\n", content, (int)from, (int)to);
    tell("mapping of a directory", mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, directory, 0) == MAP_FAILED ? -1 : 0);
    return 0;
}

static int grow(void)
{
    const size_t block = 8 << 20;
    char *content = calloc(1, block);
    const int file = make("/tmp/large", "");
    long size = 0;
    while (write(file, content, block) == (ssize_t)block)
        size += 8;
    printf("%ld MiB, %s\n", size, strerror(errno));
    return 0;
}

static int watch(void)
{
    char events[1024];
    const int watcher = inotify_init1(IN_CLOEXEC);
    struct pollfd waiting = {.fd = watcher, .events = POLLIN};
    const int number = inotify_add_watch(watcher, "/tmp", IN_CREATE);
    make("/tmp/made", "");
    tell("watch", number);
    tell("poll", poll(&waiting, 1, 10));
    tell("read", read(watcher, events, sizeof events));
    tell("closed on exec", fcntl(watcher, F_GETFD));
    tell("remove", inotify_rm_watch(watcher, number));
    tell("remove another", inotify_rm_watch(watcher, 77));
    return 0;
}

static int pipes(void)
{
    int count = 0, ends[2];
    while (count < 3000 && pipe(ends) == 0)
        count++;
    printf("%d pipes, %s\n", count, strerror(errno));
    return 0;
}

static int show(const char *path)
{
    char line[4096];
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        fputs(line, stdout);
    return !file;
}

static int sockets(void)
{
    int pair[2], value;
    socklen_t size = sizeof value;
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    tell("error", getsockopt(pair[0], SOL_SOCKET, SO_ERROR, &value, &size));
    tell("type", getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &value, &size));
    return 0;
}

static int reopen(void)
{
    char path[32];
    const int file = make("/tmp/removed", "text");
    unlink("/tmp/removed");
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    tell("removed", open(path, O_RDONLY));
    snprintf(path, sizeof path, "/proc/self/fd/%d", open("/bin/recorded", O_RDONLY));
    tell("there", open(path, O_RDONLY) < 0 ? -1 : 0);
    return 0;
}

/* Whether the child has ended before fork returns here. */
static int fork_once(void)
{
    int ends[2];
    char byte;
    pipe2(ends, O_NONBLOCK);
    const pid_t child = fork();
    if (child == 0)
    {
        usleep(100000);
        _exit(write(ends[1], "x", 1) != 1);
    }
    tell("child", read(ends[0], &byte, 1));
    return waitpid(child, NULL, 0) != child;
}

static int maps(void)
{
    struct stat memory, content;
    const int file = open("/proc/self/maps", O_RDONLY);
    if (stat("/dev/shm", &memory) != 0 || fstat(file, &content) != 0)
        return 1;
    puts(memory.st_dev == content.st_dev ? "counts" : "is elsewhere");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct
    {
        const char *name;
        int (*run)(void);
    } commands[] = {{"names", names},   {"positions", positions}, {"grow", grow},
                    {"watch", watch},   {"pipes", pipes},         {"sockets", sockets},
                    {"reopen", reopen}, {"fork", fork_once},      {"maps", maps}};
    const char *what = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(what, commands[i].name) == 0)
            return commands[i].run();
    if (strcmp(what, "show") == 0)
        return show(argv[2]);
    if (strcmp(what, "link") == 0)
        return symlink("/tmp/loop", "/tmp/loop") != 0 || open("/tmp/loop", O_RDONLY) < 0;
    if (strcmp(what, "open") == 0)
        return open(argv[2], O_RDONLY) < 0;
    return 2;
}
