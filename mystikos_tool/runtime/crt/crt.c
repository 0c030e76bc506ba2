/* The C runtime image: process 1 of the sandbox. Starts the application, passes signals on to it, reaps
 * what is orphaned, and ends with the application's exit status, upon which the system ends whatever else still
 * runs in the sandbox. */
#include "../common/application.h"
#include "../common/refuse.h"
#include "execute.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GROUP_SIGNAL_NS 1000000000ll

/* When this process was last sent each signal from outside of the sandbox, in nanoseconds. */
static int64_t received[_NSIG];

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void end_if_over(pid_t application)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == application)
            _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* A signal to the whole process group, from kill(1) or timeout(1), has reached the application as well as the outer
 * process and this one: to be recognised, it is noted here. */
static void take_signals(int signals, pid_t application)
{
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == sizeof info)
    {
        if (info.ssi_signo == SIGCHLD)
            end_if_over(application);
        else if (info.ssi_code <= 0 && info.ssi_pid == 0)
            received[info.ssi_signo] = now();
    }
}

/* Both then show as group 0: a group from outside. */
static bool is_in_our_group(pid_t pid)
{
    return getpgid(pid) == getpgrp();
}

static void pass_on(int signal, pid_t application)
{
    int64_t when = received[signal];
    received[signal] = 0;
    if (when && now() - when < GROUP_SIGNAL_NS && is_in_our_group(application))
        return;
    kill(application, signal);
}

/* The outer process forwards what was sent to it alone. */
static void take_requests(int control, int signals, pid_t application)
{
    unsigned char signal;
    ssize_t size = read(control, &signal, 1);
    if (size == 0)
        _exit(128 + SIGKILL); /* it is dead */
    if (size < 0 || signal == 0 || signal >= _NSIG)
        return;
    take_signals(signals, application);
    pass_on(signal, application);
}

static void let_go_of_stdio(void)
{
    for (int i = 0; i < 3; i++)
        close(i);
}

int main(void)
{
    const struct myst_application *given = (const struct myst_application *)getauxval(AT_MYST_APPLICATION);
    sigset_t all;

    myst_set_package_name(given->package_name);
    sigfillset(&all);
    int signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        myst_refuse_errno("cannot watch signals");
    pid_t application = fork();
    if (application < 0)
        myst_refuse_errno("cannot start a process");
    if (application == 0)
        myst_execute(given);

    let_go_of_stdio();
    struct pollfd sources[] = {{.fd = signals, .events = POLLIN}, {.fd = given->control, .events = POLLIN}};
    for (;;)
    {
        if (poll(sources, 2, -1) < 0)
            continue;
        if (sources[0].revents)
            take_signals(signals, application);
        if (sources[1].revents)
            take_requests(given->control, signals, application);
    }
}
