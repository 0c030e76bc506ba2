#include "callers.h"

#include "process_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PLACES 64
#define KEPT_MS 5 /* Linux gives out some thousand numbers before one comes again, each in some microseconds */

static struct caller
{
    pid_t thread; /* 0: free */
    pid_t process;
    int descriptor; /* or a negative errno */
    int of_program; /* see myst_note_of_program */
    int64_t until;  /* milliseconds */
} callers[PLACES];

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static int open_process(pid_t process)
{
    const int descriptor = (int)syscall(SYS_pidfd_open, process, 0);
    return descriptor >= 0 ? descriptor : -errno;
}

/* The system opens a process by the number of its first thread alone. */
static void ask(const struct myst_application *application, struct caller *caller)
{
    caller->process = caller->thread;
    caller->descriptor = open_process(caller->thread);
    if (caller->descriptor >= 0 || caller->thread == application->process)
        return;
    caller->process = (pid_t)myst_thread_status(application, caller->thread, "\nTgid:", 10);
    caller->descriptor = open_process(caller->process);
}

static struct caller *find(const struct myst_application *application, pid_t thread)
{
    struct caller *caller = &callers[(unsigned)thread % PLACES];
    if (caller->thread == thread && now() < caller->until)
        return caller;
    if (caller->thread && caller->descriptor >= 0)
        close(caller->descriptor);
    *caller = (struct caller){.thread = thread, .until = now() + KEPT_MS};
    ask(application, caller);
    return caller;
}

pid_t myst_process_of_thread(const struct myst_application *application, pid_t thread)
{
    return thread == application->process ? thread : find(application, thread)->process;
}

int myst_descriptor_of_process(const struct myst_application *application, pid_t thread)
{
    return find(application, thread)->descriptor;
}

int *myst_note_of_program(const struct myst_application *application, pid_t thread)
{
    return &find(application, thread)->of_program;
}

void myst_forget_program(pid_t thread)
{
    struct caller *caller = &callers[(unsigned)thread % PLACES];
    if (caller->thread == thread)
        caller->of_program = 0;
}

long myst_thread_status(const struct myst_application *application, pid_t thread, const char *key, int base)
{
    char text[2048];
    if (myst_read_process_file(application->proc, thread, "status", text, sizeof text) <= 0)
        return -1;
    const char *at = strstr(text, key);
    return at ? (long)strtoul(at + strlen(key), NULL, base) : -1;
}
