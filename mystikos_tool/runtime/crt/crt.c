/* The C runtime image: process 1 of the sandbox. Starts the application, passes signals on to it, reaps
 * what is orphaned, and ends with the application's exit status, upon which the system ends whatever else still
 * runs in the sandbox. */
#include "../common/application.h"
#include "../common/error.h"
#include "../common/proc_files.h"
#include "../common/sizes.h"
#include "budget.h"
#include "connecting.h"
#include "execute.h"
#include "notes.h"
#include "notify_thread.h"
#include "own_files.h"
#include "seccomp_notify.h"
#include "stacks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GROUP_SIGNAL_NS 1000000000ll

/* When this process was last sent each signal from outside of the sandbox (pid 0, as seen from its namespace), in
 * nanoseconds. */
static int64_t received[_NSIG];

/* The last signal from outside that would have ended the package under Mystikos. */
static int passed_on;

static struct myst_application *given;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Kills the children of this process, as far as it knows them; false when there are none. */
static bool kill_children(void)
{
    char text[4096], *at = text;
    bool any = false;
    ssize_t size = given->isolated ? 0 : pread(given->children, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = 0;
    for (pid_t pid; (pid = (pid_t)strtol(at, &at, 10)) > 0;)
        any = kill(pid, SIGKILL) == 0 || any;
    return any;
}

/* The system ends a PID namespace with its first process, but closes that one's files before: a call that waits for an
 * answer would fail and its program go on. Without a namespace, whatever lost its parent has become a child of this
 * process. */
__attribute__((noreturn)) static void end(int status)
{
    if (given->isolated)
        kill(-1, SIGKILL);
    while (!given->isolated && kill_children())
        while (waitpid(-1, NULL, 0) > 0)
            kill_children();
    if (!given->quiet)
        myst_tell_uses(status == 128 + SIGABRT);
    _exit(status);
}

static void end_if_over(pid_t application)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
    {
        if (WIFSTOPPED(status) && !myst_take_stop(given, pid, &status))
            continue;
        myst_forget_thread(pid);
        if (pid == application && passed_on && !(WIFSIGNALED(status) && WTERMSIG(status) == passed_on))
            myst_note_use(MYST_USE_SIGNAL);
        if (pid == application)
            end(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
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
        else if (info.ssi_code <= 0 && (info.ssi_pid == 0 || !given->isolated))
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
    if (kill(application, signal) == 0 && signal != SIGWINCH && signal != SIGCONT && signal != SIGTSTP)
        passed_on = signal;
}

/* The outer process forwards what was sent to it alone. */
static void take_requests(int control, int signals, pid_t application)
{
    unsigned char signal;
    ssize_t size = read(control, &signal, 1);
    if (size == 0)
        end(128 + SIGKILL); /* it is dead */
    if (size < 0 || signal == 0 || signal >= _NSIG)
        return;
    take_signals(signals, application);
    pass_on(signal, application);
}

/* The descriptor that the application's process sends before it becomes the application, or -1: there is none, or
 * the process has ended. */
static int receive_listener(int socket)
{
    union
    {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    char nothing;
    struct iovec content = {&nothing, 1};
    struct msghdr message = {
        .msg_iov = &content, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int listener = -1;
    ssize_t size;

    while ((size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        continue;
    if (size == 1 && CMSG_FIRSTHDR(&message))
        memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof listener);
    return listener;
}

/* This process holds nothing that somebody might wait for, such as the end of a pipe, but what it needs to tell why it
 * stops the application. Their numbers stay taken: nothing else gets them. */
static void let_go_of_stdio(bool keeps_stderr)
{
    const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < (keeps_stderr ? 2 : 3); i++)
        if (nothing < 0 || dup2(nothing, i) < 0)
            close(i);
    if (nothing > 2)
        close(nothing);
}

/* The program has begun, or never will: its stack may have been larger for its arguments. */
static void limit_stack(pid_t application)
{
    struct rlimit limit;
    if (given->thread_stack || prlimit(application, RLIMIT_STACK, NULL, &limit) != 0)
        return;
    limit.rlim_cur = given->main_stack;
    prlimit(application, RLIMIT_STACK, &limit, NULL);
}

/* Milliseconds. */
static int until_next_look(void)
{
    const int budget = myst_budget_timeout(), connections = myst_connections_timeout();
    return budget < 0 || (connections >= 0 && connections < budget) ? connections : budget;
}

static pid_t start(int *listener, int *begin)
{
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        myst_refuse_errno("cannot make a pair of sockets");
    pid_t pid = fork();
    if (pid < 0)
        myst_refuse_errno("cannot start a process");
    if (pid == 0)
        myst_execute(given, sockets[1]);
    if (given->thread_stack || given->exec_stack)
        myst_note_first_program(pid);
    close(sockets[1]);
    *listener = receive_listener(sockets[0]);
    myst_seccomp_notify_begin(*listener);
    *begin = sockets[0];
    return pid;
}

/* Mystikos' dynamic linker takes every program for one that is set-id, and no more than LD_PRELOAD from its variables.
 */
static void look_at_environment(void)
{
    static const char name[] = "LD_LIBRARY_PATH=";
    for (char **variable = given->environment; *variable; variable++)
        if (strncmp(*variable, name, sizeof name - 1) == 0 && (*variable)[sizeof name - 1])
            myst_note_use(MYST_USE_LIBRARY_PATH);
}

static void answer_one(int listener)
{
    struct myst_call call = {.application = given, .listener = listener};
    const int stopped = myst_seccomp_notify_answer(&call, myst_seccomp_notify_take(&call));
    if (stopped)
        end(stopped);
}

int main(void)
{
    int listener, begin;
    sigset_t all;

    given = (struct myst_application *)getauxval(AT_MYST_APPLICATION);
    myst_set_package_name(given->package_name);
    if (!given->isolated && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        myst_refuse_errno("cannot take care of orphans");
    sigfillset(&all);
    int signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        myst_refuse_errno("cannot watch signals");
    if (given->isolated)
        given->proc = open(given->as_linux ? "/proc" : "/proc/" MYST_LINUX_PROC, O_PATH | O_DIRECTORY | O_CLOEXEC);
    given->started = now() / 1000000000ll;
    char path[MYST_OWN_PATH];
    myst_own_path(0, path);
    myst_take_turn();
    myst_begin_notify_thread(end, until_next_look);
    const pid_t application = start(&listener, &begin);
    given->process = application;
    look_at_environment();
    myst_budget_begin(given);
    umask(0); /* the application's is applied to what is made for it */
    let_go_of_stdio(listener >= 0);

    /* Whoever begins to trace a thread for its stacks has to go on with it: that is this thread. */
    const bool takes_calls = given->thread_stack || given->exec_stack;
    const int sooner = myst_let_take(given, takes_calls ? -1 : listener);

    /* poll leaves negative descriptors out. */
    struct pollfd sources[] = {{.fd = signals, .events = POLLIN},
                               {.fd = given->control, .events = POLLIN},
                               {.fd = takes_calls ? listener : -1, .events = POLLIN},
                               {.fd = begin, .events = POLLIN},
                               {.fd = sooner, .events = POLLIN}};
    for (;;)
    {
        const int ready = poll(sources, MYST_COUNT(sources), myst_give_turn(until_next_look()));
        myst_take_turn();
        myst_budget_look(given);
        myst_look_at_connections(given);
        if (ready <= 0)
            continue;
        if (sources[0].revents)
            take_signals(signals, application);
        if (sources[1].revents)
            take_requests(given->control, signals, application);
        if (sources[2].revents & POLLIN)
            answer_one(listener);
        if (sources[2].revents & POLLHUP)
            sources[2].fd = -1; /* nobody is left under the filter */
        if (sources[3].revents)
        {
            limit_stack(application);
            close(begin);
            sources[3].fd = -1;
        }
    }
}
