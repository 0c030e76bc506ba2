/* What a program finds where Mystikos does otherwise than Linux, as recorded; one aspect a command. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
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

static int make_files(const char *directory, int count)
{
    char path[64];
    int made = mkdir(directory, 0755);
    for (int i = 0; i < count; i++)
    {
        snprintf(path, sizeof path, "%s/%03d", directory, i);
        close(make(path, ""));
    }
    return made;
}

/* Removes all that readdir tells, of a directory with 300 files, by parts of 7 entries as musl reads it. */
static int listing(void)
{
    int count = 0, removed = 0;
    char path[300], last[256] = "";
    make_files("/tmp/list", 300);
    DIR *directory = opendir("/tmp/list");
    for (struct dirent *entry; (entry = readdir(directory)); count++)
        strcpy(last, entry->d_name);
    printf("%d entries, the last %s\n", count, last);
    rewinddir(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
    {
        snprintf(path, sizeof path, "/tmp/list/%s", entry->d_name);
        removed += *entry->d_name != '.' && unlink(path) == 0;
    }
    printf("%d removed\n", removed);
    rewinddir(directory);
    count = 0;
    while (readdir(directory))
        count++;
    printf("%d entries left\n", count);
    tell("directory", rmdir("/tmp/list"));
    return 0;
}

static int renaming(void)
{
    make_files("/tmp/empty", 0);
    make_files("/tmp/other", 0);
    make_files("/tmp/full", 2);
    close(make("/tmp/file", "text"));
    close(make("/tmp/file2", "text"));
    tell("directory to empty directory", rename("/tmp/other", "/tmp/empty"));
    tell("directory to file", rename("/tmp/other", "/tmp/file"));
    tell("file to directory", rename("/tmp/file2", "/tmp/empty"));
    tell("file to file", rename("/tmp/file2", "/tmp/full/000"));
    tell("directory to nothing", rename("/tmp/full", "/tmp/moved"));
    tell("moved", access("/tmp/moved/001", F_OK));
    return 0;
}

static int links(void)
{
    char target[6000], text[8] = "-------";
    memset(target, 'a', sizeof target);
    target[5000] = 0;
    tell("5000 bytes", symlink(target, "/tmp/long"));
    tell("made", symlink("abcdef", "/tmp/short"));
    tell("room for all", readlink("/tmp/short", text, 7));
    printf("%s\n", text);
    tell("room for a part", readlink("/tmp/short", text, 4));
    printf("%s\n", text);
    return 0;
}

static int mappings(void)
{
    const long page = 4096;
    const int file = make("/tmp/mapped", "text");
    for (int protection = PROT_READ; protection <= (PROT_READ | PROT_WRITE); protection += PROT_WRITE)
    {
        const char *at = mmap(NULL, 3 * page, protection, MAP_PRIVATE, file, 0);
        printf("%.4s, behind the end %d\n", at, at[2 * page]);
        at = mmap(NULL, page, protection, MAP_PRIVATE, file, page);
        printf("all behind the end %d\n", at[0]);
    }
    return 0;
}

static int messages(void)
{
    int pair[2];
    char byte = 'x';
    union
    {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec content = {&byte, 1};
    struct msghdr message = {.msg_iov = &content, .msg_iovlen = 1};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    tell("send", sendmsg(pair[0], &message, 0));
    tell("receive", recvmsg(pair[1], &message, 0));
    tell("send without a signal", send(pair[0], "x", 1, MSG_NOSIGNAL));
    tell("send at once", send(pair[0], "x", 1, MSG_DONTWAIT));
    tell("receive all", recv(pair[1], &byte, 1, MSG_WAITALL));
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    tell("send a descriptor", sendmsg(pair[0], &message, 0));
    tell("receive a descriptor", recvmsg(pair[1], &message, 0));
    close(pair[1]);
    tell("send to nobody", send(pair[0], "x", 1, MSG_NOSIGNAL));
    return 0;
}

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int returned[2];

static void *connect_there(void *flags)
{
    const int client = socket(AF_UNIX, SOCK_STREAM | (int)(intptr_t)flags, 0);
    const int result = connect(client, (struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
    return write(returned[1], &result, sizeof result) == sizeof result ? NULL : flags;
}

/* connect to a path and to an abstract name, whether the socket waits or not. */
static int connecting(void)
{
    for (int i = 0; i < 4; i++)
    {
        pthread_t thread;
        int result = -1;
        struct pollfd state;
        const int listening = socket(AF_UNIX, SOCK_STREAM, 0);
        pipe(returned);
        state = (struct pollfd){.fd = returned[0], .events = POLLIN};
        snprintf(address.sun_path, sizeof address.sun_path, "%s%d", i < 2 ? "/tmp/socket" : "", i);
        if (i >= 2)
            address.sun_path[0] = 0, address.sun_path[1] = 'a', address.sun_path[2] = (char)('0' + i);
        tell("bind", bind(listening, (struct sockaddr *)&address, sizeof address));
        listen(listening, 5);
        pthread_create(&thread, NULL, connect_there, (void *)(intptr_t)(i % 2 ? SOCK_NONBLOCK : 0));
        const int before = poll(&state, 1, 50);
        accept(listening, NULL, NULL);
        read(returned[0], &result, sizeof result);
        printf("before accept %d, then %d\n", before, result);
        pthread_join(thread, NULL);
    }
    return 0;
}

static int ignoring(void)
{
    signal(SIGUSR1, SIG_IGN);
    signal(SIGRTMAX, SIG_IGN);
    tell("missing", execl("/bin/none", "none", NULL));
    printf("still ignored: %d\n", signal(SIGUSR1, SIG_IGN) == SIG_IGN);
    execl("/bin/recorded", "recorded", "ignored", NULL);
    return 1;
}

static void *execute(void *path)
{
    execl(path, "recorded", "ignored", NULL);
    return NULL;
}

static int threaded(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, execute, "/bin/none");
    pthread_join(thread, NULL);
    puts("missing");
    pthread_create(&thread, NULL, execute, "/bin/recorded");
    pthread_join(thread, NULL);
    return 0;
}

static int ignored(void)
{
    printf("ignored: %d %d\n", signal(SIGUSR1, SIG_DFL) == SIG_IGN, signal(SIGRTMAX, SIG_DFL) == SIG_IGN);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct
    {
        const char *name;
        int (*run)(void);
    } commands[] = {{"names", names},       {"positions", positions}, {"grow", grow},
                    {"watch", watch},       {"pipes", pipes},         {"sockets", sockets},
                    {"reopen", reopen},     {"fork", fork_once},      {"maps", maps},
                    {"listing", listing},   {"renaming", renaming},   {"links", links},
                    {"mappings", mappings}, {"messages", messages},   {"connecting", connecting},
                    {"ignoring", ignoring}, {"threaded", threaded},   {"ignored", ignored}};
    const char *what = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(what, commands[i].name) == 0)
            return commands[i].run();
    if (strcmp(what, "show") == 0)
        return show(argv[2]);
    if (strcmp(what, "link") == 0)
        return symlink("/tmp/loop", "/tmp/loop") != 0 || open("/tmp/loop", O_RDONLY) < 0;
    if (strcmp(what, "below") == 0)
        return mkdir("/tmp/upper", 0755) != 0 || rename("/tmp/upper", "/tmp/upper/lower") != 0;
    if (strcmp(what, "open") == 0)
        return open(argv[2], O_RDONLY) < 0;
    return 2;
}
