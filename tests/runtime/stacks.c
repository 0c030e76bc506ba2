/* What its stacks are like: the size of a thread's, how much of the main one can be used, and whether code runs there.
 */
#include <alloca.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void *tell_size(void *unused)
{
    pthread_attr_t attributes;
    size_t size = 0;
    (void)unused;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0)
        pthread_attr_getstacksize(&attributes, &size);
    printf("%zu\n", size >> 10);
    return NULL;
}

static void *run_on_stack(void *unused)
{
    volatile unsigned char code[16] = {0xb8, 7, 0, 0, 0, 0xc3}; /* mov $7, %eax; ret */
    int (*function)(void);
    volatile void *address = code;
    (void)unused;
    memcpy(&function, &address, sizeof function);
    printf("%d\n", function());
    return NULL;
}

static void in_thread(void *(*function)(void *))
{
    pthread_t thread;
    fflush(stdout);
    pthread_create(&thread, NULL, function, NULL);
    pthread_join(thread, NULL);
}

static void use(size_t size)
{
    volatile char *block = alloca(size);
    for (size_t at = size; at > 4096; at -= 4096)
        block[at - 1] = 1;
    puts("used");
}

static void exit_by_fault(int number)
{
    _exit(100 + number);
}

/* Starts this program again, by a name that is not there and then by its own. */
static int again(char **argv)
{
    pid_t pid;
    int status;
    posix_spawn(&pid, "/missing", NULL, NULL, argv, environ);
    if ((errno = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ)))
        return perror("posix_spawn"), 1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void *replace(void *argv)
{
    execve("/proc/self/exe", argv, environ);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    if (strcmp(argv[1], "size") == 0)
        in_thread(tell_size);
    else if (strcmp(argv[1], "use") == 0)
        use(strtoul(argv[2], NULL, 10) << 10);
    else if (strcmp(argv[1], "execute") == 0)
        run_on_stack(NULL);
    else if (strcmp(argv[1], "execute-in-thread") == 0)
        in_thread(run_on_stack);
    else if (strcmp(argv[1], "again") == 0)
        return again(argv + 1);
    else if (strcmp(argv[1], "replace") == 0)
    {
        pthread_t thread;
        pthread_create(&thread, NULL, replace, argv + 1);
        pause();
    }
    else if (strcmp(argv[1], "wait") == 0)
    {
        signal(SIGUSR1, exit_by_fault);
        puts("ready");
        fflush(stdout);
        for (;;)
            pause();
    }
    return 0;
}
