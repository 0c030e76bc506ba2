#include "execute.h"

#include "../common/error.h"
#include "../common/interpreter.h"
#include "../common/linux_version.h"
#include "../common/sizes.h"
#include "filter.h"
#include "machine.h"
#include "program.h"
#include "rules.h"
#include "scripts.h"
#include "stacks.h"
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void set_limit(int resource, uint64_t bytes, uint64_t maximum, const char *key)
{
    const struct rlimit limit = {bytes, maximum};
    if (setrlimit(resource, &limit) != 0)
        myst_refuse_errno("configuration: %s: cannot set the limit", key);
}

/* The host's limit where it is lower. */
static void set_limit_if_allowed(int resource, uint64_t current, uint64_t maximum)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0)
        return;
    limit.rlim_max = maximum < limit.rlim_max ? maximum : limit.rlim_max;
    limit.rlim_cur = current < limit.rlim_max ? current : limit.rlim_max;
    setrlimit(resource, &limit);
}

/* Known values in place of the caller's. What Mystikos does not limit, nothing but the host's maximum does. */
static void set_other_limits(const struct myst_application *application)
{
    static const int unlimited[] = {RLIMIT_CPU,     RLIMIT_FSIZE,      RLIMIT_DATA,     RLIMIT_RSS,
                                    RLIMIT_MEMLOCK, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_RTTIME};
    for (size_t i = 0; i < MYST_COUNT(unlimited); i++)
        set_limit_if_allowed(unlimited[i], RLIM_INFINITY, RLIM_INFINITY);
    /* Before Linux 5.14 the caller's processes outside count as well. */
    const bool counts_inside = application->isolated && myst_linux_is_at_least(5, 14);
    const uint64_t processes = counts_inside ? MYST_MAX_THREADS + 1 : RLIM_INFINITY; /* process 1 has two threads */
    set_limit_if_allowed(RLIMIT_NPROC, processes, processes);
    set_limit_if_allowed(RLIMIT_NOFILE, MYST_MAX_DESCRIPTORS, MYST_MAX_DESCRIPTORS);
    /* Of one byte: with no byte at all, a program of the host that takes cores would get one (core(5)). */
    set_limit_if_allowed(RLIMIT_CORE, 1, 1);
    set_limit_if_allowed(MYST_USERS_LIMIT, 0, RLIM_INFINITY);
}

/* Gives the descriptor to process 1, which waits for it. The socket closes with the start of the program. */
static void hand_over(const struct myst_application *application, int socket, int descriptor)
{
    union
    {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof descriptor)];
    } control = {0};
    char nothing = 0;
    struct iovec content = {&nothing, 1};
    struct msghdr message = {.msg_iov = &content, .msg_iovlen = 1};

    if (descriptor >= 0)
    {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof descriptor), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
    }
    if (syscall(SYS_sendmsg, socket, &message, MYST_HAND_OVER, application->secret) != 1)
        myst_refuse_errno("cannot hand the system call filter over");
    if (descriptor >= 0)
        close(descriptor);
}

static void close_what_was_closed(const struct myst_application *application)
{
    for (int i = 0; i < 3; i++)
        if (application->stdio_was_closed[i])
            close(i);
}

/* The interpreter of a script: the first word after #!. */
static bool find_script_interpreter(int file, char interpreter[PATH_MAX])
{
    char line[256] = "";
    if (pread(file, line, sizeof line - 1, 0) <= 2 || memcmp(line, "#!", 2) != 0)
        return false;
    const char *start = line + 2 + strspn(line + 2, " \t");
    const size_t length = strcspn(start, " \t\n");
    memcpy(interpreter, start, length);
    interpreter[length] = 0;
    return length > 0;
}

/* execve says ENOENT for a missing interpreter as for a missing program. */
static bool find_interpreter(const char *path, char interpreter[PATH_MAX])
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    const bool found = myst_elf_interpreter(file, interpreter) || find_script_interpreter(file, interpreter);
    close(file);
    return found;
}

__attribute__((noreturn)) static void explain(const char *path, int error)
{
    char interpreter[PATH_MAX];
    struct stat status;

    if (stat(path, &status) != 0)
        myst_refuse_errno("cannot start %s", path);
    if (S_ISDIR(status.st_mode))
        myst_refuse("cannot start %s: it is a directory", path);
    if (!(status.st_mode & 0111))
        myst_refuse("cannot start %s: it is not executable", path);
    if (find_interpreter(path, interpreter) && access(interpreter, X_OK) != 0)
        myst_refuse_errno("cannot start %s: its interpreter %s", path, interpreter);
    if (error == ENOEXEC)
        myst_refuse("cannot start %s: it is neither an x86-64 ELF program nor a script that begins with #!", path);
    if (error == E2BIG)
        myst_refuse("cannot start %s: the arguments and environment are too large for MainStackSize", path);
    errno = error;
    myst_refuse_errno("cannot start %s", path);
}

static uint64_t size_of_strings(char *const *list)
{
    uint64_t size = sizeof *list;
    for (; *list; list++)
        size += strlen(*list) + 1 + sizeof *list;
    return size;
}

/* Linux lets arguments and environment take a quarter of the stack's limit, Mystikos all of it: where they are larger,
 * the limit is raised until the program has begun. */
static void set_stack_limit(const struct myst_application *application)
{
    const uint64_t main = application->main_stack, thread = application->thread_stack;
    const uint64_t strings = size_of_strings(application->arguments) + size_of_strings(application->environment);
    const uint64_t limit = thread > main ? thread : main, start = 4 * strings + (1u << 20);
    if (strings >= main)
        myst_refuse("cannot start %s: the arguments and environment are too large for MainStackSize",
                    application->path);
    if (strings <= main / 4)
        set_limit(RLIMIT_STACK, main, limit, "MainStackSize");
    else
        set_limit(RLIMIT_STACK, start, start > limit ? start : limit, "MainStackSize");
}

/* What is started: the program, or the interpreter of the script that it is. */
struct start
{
    const char *path;
    char **arguments;
};

/* The words behind #!, the script, and its arguments. */
static void expand_script(const struct myst_application *application, const struct myst_script *script, size_t count,
                          struct start *start)
{
    size_t given = 0;
    while (application->arguments[given])
        given++;
    char **list = myst_allocated(calloc(count + given + 2, sizeof *list));
    memcpy(list, script->words, count * sizeof *list);
    list[count] = myst_allocated(strdup(application->path));
    for (size_t i = 1; i < given; i++)
        list[count + i] = application->arguments[i];
    *start = (struct start){script->words[0], list};
}

/* Process 1 cannot look into this process yet, as it does when the application executes a program. */
static struct start prepare(const struct myst_application *application)
{
    static struct myst_script script;
    struct start start = {application->path, application->arguments};
    const int file = open(application->path, O_PATH | O_CLOEXEC);
    if (!application->isolated || application->as_linux || file < 0)
        return start;
    if (!myst_is_program_file(file))
        explain(application->path, ENOEXEC);
    close(file);
    const int content = open(application->path, O_RDONLY | O_CLOEXEC);
    if (content < 0)
        return start;
    const size_t count = myst_script_words(content, &script);
    if (count > 2)
        expand_script(application, &script, count, &start);
    if (count == 0)
        myst_provide_interpreter(content);
    close(content);
    return start;
}

void myst_execute(const struct myst_application *application, int socket)
{
    const struct start program = prepare(application);
    set_stack_limit(application);
    set_limit(RLIMIT_AS, application->address_space, application->address_space, "MemorySize");
    set_other_limits(application);
    close_what_was_closed(application);
    signal(SIGXFSZ, SIG_DFL);
    sigprocmask(SIG_SETMASK, &application->signal_mask, NULL);
    if (application->thread_stack || application->exec_stack)
        myst_expect_first_program();
    hand_over(application, socket, myst_set_filter(application));
    execve(program.path, program.arguments, application->environment);
    explain(application->path, errno);
}
