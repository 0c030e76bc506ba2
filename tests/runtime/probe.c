/* The application of the packages that test_kernel.py starts: what it sees and may do, one aspect a command. */
#include <alloca.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char *name_of_error(void)
{
    switch (errno)
    {
    case ENOMEM:
        return "ENOMEM";
    case ENOTSUP:
        return "ENOTSUP";
    case EPERM:
        return "EPERM";
    default:
        return strerror(errno);
    }
}

static int arguments(char **argv)
{
    for (; *argv; argv++)
        puts(*argv);
    return 0;
}

static int environment(char **argv)
{
    (void)argv;
    return arguments(environ);
}

static int leave(char **argv)
{
    return atoi(argv[2]);
}

static int die(char **argv)
{
    raise(atoi(argv[2]));
    return 0;
}

static int copy_input(char **argv)
{
    char data[65536];
    ssize_t size;
    (void)argv;
    while ((size = read(0, data, sizeof data)) > 0)
        for (ssize_t at = 0; at < size;)
        {
            ssize_t written = write(1, data + at, (size_t)(size - at));
            if (written < 0)
                return 1;
            at += written;
        }
    return size < 0;
}

static int identity(char **argv)
{
    struct utsname names;
    char directory[4096];
    (void)argv;
    uname(&names);
    printf("host %s\n", names.nodename);
    printf("directory %s\n", getcwd(directory, sizeof directory));
    printf("process %d of %d\n", getpid(), getppid());
    printf("user %d %d group %d %d\n", getuid(), geteuid(), getgid(), getegid());
    printf("mask %03o\n", umask(0));
    return 0;
}

/* The processes that /proc shows. */
static int processes(char **argv)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    (void)argv;
    while (proc && (entry = readdir(proc)))
        if (strspn(entry->d_name, "0123456789") == strlen(entry->d_name))
            puts(entry->d_name);
    return proc ? 0 : 1;
}

static int descriptors(char **argv)
{
    (void)argv;
    for (int i = 0; i < 4096; i++)
        if (fcntl(i, F_GETFD) >= 0)
            printf("%d\n", i);
    return 0;
}

/* Octal mode, device number and path of each. */
static int status(char **argv)
{
    struct stat s;
    for (argv += 2; *argv; argv++)
        if (lstat(*argv, &s) == 0)
            printf("%o %lx %s\n", s.st_mode, (unsigned long)s.st_rdev, *argv);
        else
            printf("%s %s\n", strerror(errno), *argv);
    return 0;
}

static int show(char **argv)
{
    int file = open(argv[2], O_RDONLY);
    if (file < 0)
        return puts(strerror(errno)), 1;
    dup2(file, 0);
    return copy_input(argv);
}

/* For each line, a path: the number of bytes in that file and their FNV-1a, or why it cannot be read. */
static int show_each(char **argv)
{
    static char path[4096], data[4096];
    (void)argv;
    while (fgets(path, sizeof path, stdin))
    {
        unsigned long hash = 0xcbf29ce484222325, total = 0;
        ssize_t size = -1;
        path[strcspn(path, "\n")] = 0;
        const int file = open(path, O_RDONLY);
        while (file >= 0 && (size = read(file, data, sizeof data)) > 0)
            for (ssize_t i = 0; i < size; i++, total++)
                hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3;
        if (size < 0)
            puts(strerror(errno));
        else
            printf("%lu %016lx\n", total, hash);
        fflush(stdout);
        close(file);
    }
    return 0;
}

static int limits(char **argv)
{
    struct rlimit limit;
    cpu_set_t set;
    (void)argv;
    getrlimit(RLIMIT_AS, &limit);
    printf("address space %lu %lu\n", (unsigned long)limit.rlim_cur, (unsigned long)limit.rlim_max);
    getrlimit(RLIMIT_STACK, &limit);
    printf("stack %lu %lu\n", (unsigned long)limit.rlim_cur, (unsigned long)limit.rlim_max);
    sched_getaffinity(0, sizeof set, &set);
    printf("processors %d\n", CPU_COUNT(&set));
    return 0;
}

/* Writes to as many bytes of fresh memory. */
static int allocate(char **argv)
{
    size_t size = strtoul(argv[2], NULL, 10);
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return puts(name_of_error()), 0;
    memset(memory, 1, size);
    puts("allocated");
    return 0;
}

/* Uses as many bytes of the main thread's stack, from its top down. */
static int stack(char **argv)
{
    size_t size = strtoul(argv[2], NULL, 10);
    volatile char *block = alloca(size);
    for (size_t at = size; at > 4096; at -= 4096)
        block[at - 1] = 1;
    puts("used");
    return 0;
}

/* Writes a file of as many bytes. */
static int fill(char **argv)
{
    static char block[65536];
    size_t left = strtoul(argv[3], NULL, 10);
    int file = open(argv[2], O_WRONLY | O_CREAT, 0644);
    if (file < 0)
        return puts(strerror(errno)), 0;
    for (; left > 0; left -= left < sizeof block ? left : sizeof block)
        if (write(file, block, left < sizeof block ? left : sizeof block) < 0)
            return puts(strerror(errno)), 0;
    close(file);
    puts("written");
    return 0;
}

/* Runs another command of this program in a process of its own. */
static void run_another(char *name, char *first, char *second)
{
    char *const arguments[] = {"probe", name, first, second, NULL};
    pid_t pid;
    fflush(stdout);
    if (posix_spawn(&pid, "/bin/probe", NULL, NULL, arguments, environ) != 0)
        puts("cannot start");
    waitpid(pid, NULL, 0);
}

/* Holds memory while another process writes a file, lets go of it, and has another process take as much while the file
 * is there, and while it is not. */
static int share(char **argv)
{
    const size_t size = strtoul(argv[2], NULL, 10);
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    memset(memory, 1, size);
    run_another("fill", argv[3], argv[4]);
    munmap(memory, size);
    unlink(argv[3]);
    run_another("fill", argv[3], argv[4]);
    run_another("allocate", argv[2], NULL);
    unlink(argv[3]);
    run_another("allocate", argv[2], NULL);
    return 0;
}

/* At once: a file that is there and then is not, and as much memory. */
static int take_turns(char **argv)
{
    const size_t size = strtoul(argv[2], NULL, 10);
    for (int i = 0; i < 3; i++)
    {
        fill((char *[]){argv[0], argv[1], "/tmp/file", argv[2], NULL});
        for (int there = 1; there >= 0; there--)
        {
            void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            puts(memory == MAP_FAILED ? name_of_error() : "allocated");
            if (memory != MAP_FAILED)
                munmap(memory, size);
            unlink("/tmp/file");
        }
    }
    return 0;
}

static int program_break(char **argv)
{
    (void)argv;
    long result = syscall(SYS_brk, 0);
    puts(result < 0 ? name_of_error() : "supported");
    return 0;
}

/* Leaves a process behind whose parent has ended, and waits until process 1 has taken it away. */
static int orphan(char **argv)
{
    int ends[2];
    pid_t grandchild;
    (void)argv;
    if (pipe(ends) != 0)
        return 1;
    if (fork() == 0)
    {
        if ((grandchild = fork()) == 0)
            _exit(0);
        _exit(write(ends[1], &grandchild, sizeof grandchild) != sizeof grandchild);
    }
    wait(NULL);
    if (read(ends[0], &grandchild, sizeof grandchild) != sizeof grandchild)
        return 1;
    while (kill(grandchild, 0) == 0)
        sched_yield();
    puts("reaped");
    return 0;
}

static int signal_pipe[2];

static void note_signal(int number)
{
    unsigned char byte = (unsigned char)number;
    if (write(signal_pipe[1], &byte, 1) != 1)
        _exit(1);
}

/* Leaves processes behind that hold the output open and would run for ever. */
static int abandon(char **argv)
{
    (void)argv;
    for (int i = 0; i < 2; i++)
        if (fork() == 0)
        {
            if (i == 0 || fork() == 0)
                for (;;)
                    pause();
            _exit(0);
        }
    puts("abandoned");
    return 0;
}

/* Says ready, then tells each signal's number; ends with SIGTERM. */
static int signals(char **argv)
{
    unsigned char number = 0;
    (void)argv;
    if (pipe(signal_pipe) != 0)
        return 1;
    for (int i = 1; i < NSIG; i++)
        signal(i, note_signal);
    puts("ready");
    fflush(stdout);
    while (number != SIGTERM)
    {
        if (read(signal_pipe[0], &number, 1) != 1)
            continue;
        printf("%d\n", number);
        fflush(stdout);
    }
    return 0;
}

/* Says ready and goes on for ever; a stop signal stops it, as most programs. */
static int endure(char **argv)
{
    (void)argv;
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}

static void tried(const char *what, int succeeded)
{
    printf("%s: %s\n", what, succeeded ? "SUCCEEDED" : "refused");
}

static int can_open(const char *path, int flags)
{
    int file = open(path, flags);
    if (file < 0)
        return 0;
    close(file);
    return 1;
}

static sigjmp_buf no_such_call;

static void return_from_fault(int number)
{
    siglongjmp(no_such_call, number);
}

/* getpid by the other entry to the system, which some have not. */
static long call_32_bit(void)
{
    long result = 20;
    signal(SIGSEGV, return_from_fault);
    if (sigsetjmp(no_such_call, 1) != 0)
        return -1;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
    return (int)result;
}

static int can_list(const char *path)
{
    DIR *directory = opendir(path);
    int count = 0;
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count > 2; /* . and .. */
}

/* What would lift the sandbox's limits or reach out of it. */
static int attack(char **argv)
{
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    char link[4096] = "";
    const struct iovec vector = {link, sizeof link};
    (void)argv;
    tried("mount", mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0);
    tried("remount", mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL) == 0);
    tried("umount", umount2("/proc/sys", MNT_DETACH) == 0);
    tried("user namespace", unshare(CLONE_NEWUSER) == 0);
    tried("mount namespace", unshare(CLONE_NEWNS) == 0);
    tried("chroot", chroot("/tmp") == 0);
    tried("setuid", setuid(1) == 0 || setuid(65534) == 0);
    tried("ptrace of process 1", ptrace(PTRACE_SEIZE, 1, 0, 0) == 0);
    tried("root of process 1", can_open("/proc/.linux/1/root/", O_RDONLY));
    tried("memory of process 1", can_open("/proc/.linux/1/mem", O_RDONLY));
    tried("memory map of process 1", can_open("/proc/.linux/1/maps", O_RDONLY));
    tried("environment of process 1", can_open("/proc/.linux/1/environ", O_RDONLY));
    tried("package of process 1", readlink("/proc/.linux/1/exe", link, sizeof link) >= 0);
    tried("descriptors of process 1",
          can_open("/proc/.linux/1/fd/3", O_RDONLY) || can_open("/proc/.linux/1/fd/4", O_RDONLY));
    tried("kernel setting", can_open("/proc/sys/kernel/panic", O_WRONLY));
    tried("kernel trigger", can_open("/proc/sysrq-trigger", O_WRONLY));
    tried("kernel log", can_open("/proc/kmsg", O_RDONLY));
    tried("mode of the host's device", chmod("/dev/null", 0600) == 0);
    tried("own device", mknod("/tmp/device", S_IFCHR | 0666, makedev(1, 3)) == 0);
    /* Setting limits is said to succeed, and changes nothing. */
    setrlimit(RLIMIT_AS, &unlimited);
    prlimit(getpid(), RLIMIT_AS, &unlimited, NULL);
    tried("address space", mmap(NULL, 1ul << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    tried("address space of another process", prlimit(1, RLIMIT_AS, &unlimited, NULL) == 0);
    tried("writing to the own program", can_open("/proc/self/exe", O_WRONLY));
    tried("writing to the package",
          can_open("/proc/.linux/1/exe", O_WRONLY) || can_open("/proc/.linux/1/exe", O_RDONLY));
    tried("directory of process 1", can_open("/proc/.linux/1/cwd/", O_RDONLY));
    tried("mapped files of process 1", can_list("/proc/.linux/1/map_files"));
    tried("memory of process 1 by a call", syscall(SYS_process_vm_readv, 1, &vector, 1, &vector, 1, 0) >= 0);
    tried("tracing by the parent", ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    tried("keyring", syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -3, 0) >= 0);
    tried("key", syscall(SYS_add_key, "user", "name", "x", 1, -3) >= 0);
    tried("requested key", syscall(SYS_request_key, "user", "name", NULL, -3) >= 0);
    tried("kernel program", syscall(SYS_bpf, 0, NULL, 0) == 0 || errno == EFAULT || errno == E2BIG);
    tried("page faults", syscall(SYS_userfaultfd, 0) >= 0 || syscall(SYS_userfaultfd, 1) >= 0);
    tried("performance counters", syscall(SYS_perf_event_open, link, 0, -1, -1, 0) >= 0 || errno == EINVAL);
    tried("unwatched calls", syscall(425 /* io_uring_setup */, 1, link) >= 0 || errno == EFAULT || errno == EINVAL);
    tried("another namespace", syscall(SYS_setns, 0, 0) == 0 || errno == EINVAL);
    tried("new mount", syscall(430 /* fsopen */, "tmpfs", 0) >= 0);
    tried("copied mount", syscall(428 /* open_tree */, -100, "/", 1) >= 0);
    tried("handle of a process", syscall(434 /* pidfd_open */, 1, 0) >= 0);
    tried("kernel module", syscall(SYS_init_module, link, 0, "") == 0 || errno == EFAULT || errno == ENOEXEC);
    tried("clock", clock_settime(CLOCK_REALTIME, &(struct timespec){0}) == 0);
    tried("ports", syscall(SYS_iopl, 3) == 0);
    tried("calls of the 32-bit kind", call_32_bit() > 0);
    tried("calls of the x32 kind", syscall(0x40000000 + SYS_getpid) > 0);
    tried("typing at the terminal", ioctl(0, TIOCSTI, "x") == 0 || errno != EPERM);
    tried("capability", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0) == 0);
    tried("secure bits", prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) == 0);
    kill(1, SIGKILL);
    kill(1, SIGTERM);
    return 0;
}

/* The capability sets and no_new_privs, as Linux tells them. */
static int privileges(char **argv)
{
    char line[256];
    FILE *file = fopen("/proc/.linux/self/status", "r");
    (void)argv;
    if (!file)
        file = fopen("/proc/self/status", "r"); /* without isolation */
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "Cap", 3) == 0 || strncmp(line, "NoNewPrivs", 10) == 0)
            fputs(line, stdout);
    return file ? 0 : 1;
}

static const struct
{
    const char *name;
    int (*run)(char **argv);
} commands[] = {
    {"arguments", arguments},
    {"environment", environment},
    {"leave", leave},
    {"die", die},
    {"copy-input", copy_input},
    {"identity", identity},
    {"processes", processes},
    {"descriptors", descriptors},
    {"status", status},
    {"show", show},
    {"show-each", show_each},
    {"limits", limits},
    {"allocate", allocate},
    {"stack", stack},
    {"fill", fill},
    {"take-turns", take_turns},
    {"share", share},
    {"program-break", program_break},
    {"orphan", orphan},
    {"abandon", abandon},
    {"signals", signals},
    {"endure", endure},
    {"attack", attack},
    {"privileges", privileges},
};

int main(int argc, char **argv)
{
    if (argc < 2)
        return 3;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, argv[1]) == 0)
            return commands[i].run(argv);
    return 4;
}
