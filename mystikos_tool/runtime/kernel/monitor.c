#include "monitor.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

/* The application is in this process's group unless it left it: what the terminal sends to the group has
 * reached it already. */
static bool is_from_terminal(const siginfo_t *info)
{
    return info->si_code > 0;
}

/* The answer to passing on a signal when the sandbox has just ended, which SIGCHLD tells next: to pass this one on
 * would bring another. */
static bool is_own_sigpipe(int signal, const siginfo_t *info)
{
    return signal == SIGPIPE && info->si_pid == getpid();
}

static void pass_on(int signal, int control)
{
    unsigned char byte = (unsigned char)signal;
    while (write(control, &byte, 1) < 0 && errno == EINTR)
        continue;
}

/* Lets the signal do to this process what it did to the application, so that a shell sees its job stop. (The
 * system stops neither where nobody could continue them.) */
static void stop(int signal)
{
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, signal);
    raise(signal);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    sigprocmask(SIG_BLOCK, &only, NULL);
}

/* The exit status to end with, or -1 as long as the sandbox runs. */
static int status_of(pid_t init)
{
    int status;
    if (waitpid(init, &status, WNOHANG) != init)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int myst_monitor(pid_t init, int control)
{
    sigset_t watched;
    siginfo_t info;

    sigfillset(&watched);
    for (;;)
    {
        int signal = sigwaitinfo(&watched, &info);
        if (signal < 0)
            continue; /* EINTR, after a stop */
        if (signal == SIGCHLD)
        {
            int status = status_of(init);
            if (status >= 0)
                return status;
            continue;
        }
        if (!is_from_terminal(&info) && !is_own_sigpipe(signal, &info))
            pass_on(signal, control);
        if (signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)
            stop(signal);
    }
}
