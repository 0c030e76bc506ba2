/* Makes processes and threads in every way, or one system call by its number, and tells what came of it. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int tell(const char *what, long result)
{
    if (result < 0)
        printf("%s: %s\n", what, strerror(errno));
    else
        printf("%s: done\n", what);
    return 0;
}

static long wait_for(long pid)
{
    int status;
    if (pid < 0)
        return -1;
    return waitpid((pid_t)pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7 ? 0 : -1;
}

static long make_by_fork(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    return wait_for(pid);
}

static long make_by_vfork(void)
{
    pid_t pid = vfork();
    if (pid == 0)
        _exit(7);
    return wait_for(pid);
}

static long make_by_clone(void)
{
    long pid = syscall(SYS_clone, CLONE_CHILD_CLEARTID | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(7);
    return wait_for(pid);
}

static long make_by_clone3(void)
{
    uint64_t arguments[11] = {[4] = SIGCHLD}; /* struct clone_args: exit_signal */
    long pid = syscall(435, arguments, sizeof arguments);
    if (pid == 0)
        _exit(7);
    return wait_for(pid);
}

static long make_by_spawn(void)
{
    pid_t pid;
    char *arguments[] = {(char *)"calls", (char *)"leave", NULL};
    errno = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ);
    return errno ? -1 : wait_for(pid);
}

static void *run_thread(void *argument)
{
    *(int *)argument = 7;
    return NULL;
}

static long make_thread(void)
{
    pthread_t thread;
    int value = 0;
    errno = pthread_create(&thread, NULL, run_thread, &value);
    if (errno || (errno = pthread_join(thread, NULL)))
        return -1;
    return value == 7 ? 0 : -1;
}

static long make_namespace(void)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(7);
    return wait_for(pid);
}

/* From another thread of this process as well as from the main one. */
static void *make_call(void *number)
{
    return (void *)syscall(*(long *)number, -1, -1, -1, -1, -1, -1);
}

static int processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : -1;
}

static int widen_affinity(void)
{
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    tell("all", sched_setaffinity(0, sizeof all, &all));
    printf("%d\n", processors());
    for (int i = 0; i < CPU_SETSIZE; i++)
    {
        CPU_ZERO(&all);
        CPU_SET(i, &all);
        if (sched_setaffinity(0, sizeof all, &all) == 0)
            printf("alone on %d: %d\n", i, processors());
    }
    CPU_ZERO(&all);
    tell("none", sched_setaffinity(0, sizeof all, &all));
    tell("bad address", syscall(SYS_sched_setaffinity, 0, sizeof all, 8));
    tell("process 1", sched_setaffinity(1, sizeof all, &all));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "leave") == 0)
        return 7;
    if (argc == 2 && strcmp(argv[1], "processes") == 0)
    {
        tell("fork", make_by_fork());
        tell("vfork", make_by_vfork());
        tell("clone", make_by_clone());
        tell("clone3", make_by_clone3());
        tell("posix_spawn", make_by_spawn());
        tell("thread", make_thread());
        return tell("namespace", make_namespace());
    }
    if (argc == 2 && strcmp(argv[1], "affinity") == 0)
        return widen_affinity();
    if (argc == 3 && strcmp(argv[1], "call") == 0)
    {
        long number = atol(argv[2]);
        return tell("call", (long)make_call(&number));
    }
    if (argc > 2 && strcmp(argv[1], "call-each") == 0)
    {
        /* Those that do not fail with ENOSYS. */
        for (argv += 2; *argv; argv++)
            if (syscall(atol(*argv), -1, -1, -1, -1, -1, -1) != -1 || errno != ENOSYS)
                puts(*argv);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "call-in-thread") == 0)
    {
        long number = atol(argv[2]);
        pthread_t thread;
        pthread_create(&thread, NULL, make_call, &number);
        pthread_join(thread, NULL);
        return 0;
    }
    return 2;
}
