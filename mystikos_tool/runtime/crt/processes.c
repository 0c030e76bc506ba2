#include "processes.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of the process that started the application, which nobody sees. */
#define STARTER 100

/* Group 0 is one outside; inside, every process leads a group of its own until it joins another. */
static int64_t group_of(const struct myst_call *call, pid_t process)
{
    const pid_t asked = process ? process : myst_call_process(call);
    if (asked == 1)
        return -EPERM;
    const pid_t group = getpgid(asked);
    if (group < 0)
        return -EPERM; /* as Mystikos says of what is not there */
    return group ? group : asked;
}

static int64_t session_of(pid_t process)
{
    const pid_t session = getsid(process);
    return session > 0 ? session : STARTER;
}

static int64_t parent_of(const struct myst_call *call)
{
    return myst_call_process(call) == call->application->process ? STARTER : MYST_CONTINUE;
}

int64_t myst_serve_processes(const struct myst_call *call)
{
    const pid_t process = (pid_t)myst_call_argument(call, 0);
    if (!call->application->isolated)
        return MYST_CONTINUE;
    switch (call->notification.data.nr)
    {
    case SYS_getppid:
        return parent_of(call);
    case SYS_getpgrp:
        return group_of(call, 0);
    case SYS_getpgid:
        return group_of(call, process);
    case SYS_getsid:
        return session_of(process ? process : myst_call_thread(call));
    default:
        return MYST_CONTINUE;
    }
}
