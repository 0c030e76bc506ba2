/* Runs a program and prints, when it has ended, how many threads its first process started. */
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    const pid_t child = fork();
    if (child == 0)
    {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        execv(argv[1], argv + 1);
        _exit(2);
    }
    int threads = 0, status;
    if (child < 0 || waitpid(child, &status, 0) != child ||
        ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL) != 0 ||
        ptrace(PTRACE_CONT, child, NULL, NULL) != 0)
        return 2;
    for (;;)
    {
        const pid_t stopped = waitpid(-1, &status, __WALL);
        if (stopped < 0 || (stopped == child && !WIFSTOPPED(status)))
            break;
        if (!WIFSTOPPED(status))
            continue; /* a thread has ended */
        const int signal = WSTOPSIG(status), event = status >> 16;
        threads += event == PTRACE_EVENT_CLONE;
        /* Events, a new thread's first stop and the stop at exec are no signals of the program. */
        const int pass = event == 0 && signal != SIGSTOP && signal != SIGTRAP ? signal : 0;
        ptrace(PTRACE_CONT, stopped, NULL, pass);
    }
    printf("threads: %d\n", threads);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
