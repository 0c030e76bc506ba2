#include "helper.h"

#include "../common/error.h"
#include "../common/sizes.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_CALLS 16

pid_t myst_start_helper(void (*serve)(void *what), void *what)
{
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    const pid_t outer = getpid(), pid = fork();
    if (pid == 0)
    {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && getppid() == outer &&
            prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
            serve(what);
        _exit(MYST_EXIT_REFUSED);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

struct with_socket
{
    void (*serve)(int channel, void *what);
    void *what;
    int channel;
};

static void serve_at_socket(void *given)
{
    const struct with_socket *with = given;
    with->serve(with->channel, with->what);
}

int myst_start_helper_with_socket(int type, void (*serve)(int channel, void *what), void *what)
{
    int sockets[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, sockets) != 0)
        myst_refuse_errno("cannot make a pair of sockets");
    struct with_socket with = {.serve = serve, .what = what, .channel = sockets[1]};
    if (myst_start_helper(serve_at_socket, &with) < 0)
        myst_refuse_errno("cannot start a process");
    close(sockets[1]);
    return sockets[0];
}

void myst_keep_descriptors(const int *descriptors, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (dup2(descriptors[i], (int)i) != (int)i)
            _exit(MYST_EXIT_REFUSED);
    if (syscall(SYS_close_range, (unsigned)count, ~0u, 0u) != 0)
        _exit(MYST_EXIT_REFUSED);
}

void myst_allow_calls_only(const unsigned *numbers, size_t count)
{
    struct sock_filter code[MAX_CALLS + 5] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, (uint8_t)(count + 1)),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    if (count > MAX_CALLS)
        _exit(MYST_EXIT_REFUSED);
    struct sock_filter *next = code + 3;
    for (size_t i = 0; i < count; i++)
        *next++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, numbers[i], (uint8_t)(count - i), 0);
    *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog program = {.len = (unsigned short)(next - code), .filter = code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
        _exit(MYST_EXIT_REFUSED);
}
