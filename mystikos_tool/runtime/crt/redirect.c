#include "redirect.h"

#include "../common/sizes.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define SYSCALL_LENGTH 2 /* bytes of the instruction */
#define SYSCALL_STOP (SIGTRAP | 0x80)
#define MAX_REDIRECTED 64
#define ERESTARTSYS 512 /* include/linux/errno.h: what a tracer sees of a call that a signal ended */
#define ERESTARTNOINTR 513
#define RED_ZONE 128     /* bytes below the stack pointer that a program may use (System V ABI, AMD64 supplement) */
#define SIGNAL_ACTION 32 /* bytes of struct sigaction of the system */
#define MAX_BELOW 256    /* bytes further below, which the smallest stacks have, as those of Go's routines */

/* Threads whose next call is one that they were redirected to. */
static struct redirected
{
    pid_t thread; /* 0: free */
    long number;
    uint64_t arguments[6];
} redirected[MAX_REDIRECTED];

static bool is_noted(const struct redirected *entry, const struct myst_call *call)
{
    return entry->thread == myst_call_thread(call) && entry->number == call->notification.data.nr &&
           memcmp(entry->arguments, call->notification.data.args, sizeof entry->arguments) == 0;
}

bool myst_is_redirected(const struct myst_call *call)
{
    for (size_t i = 0; i < MAX_REDIRECTED; i++)
    {
        if (!is_noted(&redirected[i], call))
            continue;
        redirected[i].thread = 0;
        return true;
    }
    return false;
}

/* The oldest of too many is one of a thread that has ended. */
static void note(pid_t thread, long number, const uint64_t arguments[6])
{
    static size_t next;
    struct redirected *entry = &redirected[next++ % MAX_REDIRECTED];
    *entry = (struct redirected){.thread = thread, .number = number};
    memcpy(entry->arguments, arguments, sizeof entry->arguments);
}

/* Waits for a stop, and leaves the end of the thread to whoever waits for that: false then. */
static bool wait_for_stop(pid_t thread, int *status)
{
    siginfo_t info = {0};
    while (waitid(P_PID, (id_t)thread, &info, WSTOPPED | WEXITED | WNOWAIT | __WALL) != 0)
        if (errno != EINTR)
            return false;
    if (info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED)
        return false;
    return waitpid(thread, status, __WALL) == thread && WIFSTOPPED(*status);
}

/* The call is made anew behind the signal's handler, even behind one that ends calls: this one knows no EINTR. */
static void make_anew(pid_t thread)
{
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, thread, 0, &registers) != 0 || (int64_t)registers.rax != -ERESTARTSYS)
        return;
    registers.rax = (uint64_t)-ERESTARTNOINTR;
    ptrace(PTRACE_SETREGS, thread, 0, &registers);
}

/* A signal that came first is delivered, and the thread makes its call anew: nothing is to be done now. */
static bool stop(const struct myst_call *call)
{
    const pid_t thread = myst_call_thread(call);
    struct seccomp_notif_resp anew = {.id = call->notification.id, .error = -ERESTARTNOINTR};
    int status;
    if (ptrace(PTRACE_INTERRUPT, thread, 0, 0) != 0)
        return false;
    /* It stops behind the answer, where only a signal that kills ends its wait for one (filter.c). */
    ioctl(call->listener, SECCOMP_IOCTL_NOTIF_SEND, &anew);
    if (!wait_for_stop(thread, &status))
        return false;
    if (status >> 16 == PTRACE_EVENT_STOP)
        return true;
    make_anew(thread);
    ptrace(PTRACE_DETACH, thread, 0, WSTOPSIG(status));
    return false;
}

static void set_call(struct user_regs_struct *registers, long number, const uint64_t arguments[6])
{
    registers->orig_rax = ~0ull; /* no call to be started again */
    registers->rax = (uint64_t)number;
    registers->rdi = arguments[0];
    registers->rsi = arguments[1];
    registers->rdx = arguments[2];
    registers->r10 = arguments[3];
    registers->r8 = arguments[4];
    registers->r9 = arguments[5];
}

/* Behind the instruction of the call that waits; its registers are as at the call. */
static bool read_registers(const struct myst_call *call, struct user_regs_struct *registers)
{
    if (ptrace(PTRACE_GETREGS, myst_call_thread(call), 0, registers) != 0)
        return false;
    registers->rip = call->notification.data.instruction_pointer - SYSCALL_LENGTH;
    return true;
}

/* A signal in between is given back at the end. */
static bool run_to_call_stop(pid_t thread, int *pending)
{
    int status;
    do
    {
        if (ptrace(PTRACE_SYSCALL, thread, 0, 0) != 0 || !wait_for_stop(thread, &status))
            return false;
        if (status >> 16 == 0 && WSTOPSIG(status) != SYSCALL_STOP)
            *pending = WSTOPSIG(status);
    } while (WSTOPSIG(status) != SYSCALL_STOP);
    return true;
}

/* Lets the stopped thread make a call, and stops it again behind it: its result, or -ESRCH where the thread is gone.
 * The filter must allow the call. */
static int64_t run(const struct myst_call *call, long number, const uint64_t arguments[6], int *pending)
{
    const pid_t thread = myst_call_thread(call);
    struct user_regs_struct registers;
    if (!read_registers(call, &registers))
        return -ESRCH;
    set_call(&registers, number, arguments);
    if (ptrace(PTRACE_SETREGS, thread, 0, &registers) != 0 || !run_to_call_stop(thread, pending) ||
        !run_to_call_stop(thread, pending) || ptrace(PTRACE_GETREGS, thread, 0, &registers) != 0)
        return -ESRCH;
    return (int64_t)registers.rax;
}

static bool is_error(int64_t result)
{
    return result < 0 && result >= -4095;
}

/* Memory of the stopped thread's process that nothing else is in; 0 where there is none. */
static uint64_t allocate(const struct myst_call *call, size_t size, int *pending)
{
    const uint64_t arguments[6] = {0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0};
    const int64_t address = run(call, SYS_mmap, arguments, pending);
    return is_error(address) ? 0 : (uint64_t)address;
}

static void let_go(const struct myst_call *call, int pending)
{
    ptrace(PTRACE_DETACH, myst_call_thread(call), 0, 0);
    if (pending)
        syscall(SYS_tgkill, myst_call_process(call), myst_call_thread(call), pending);
}

static bool change(const struct myst_call *call, long number, const uint64_t arguments[6])
{
    struct user_regs_struct registers;
    if (!read_registers(call, &registers))
        return false;
    set_call(&registers, number, arguments);
    if (ptrace(PTRACE_SETREGS, myst_call_thread(call), 0, &registers) != 0)
        return false;
    note(myst_call_thread(call), number, arguments);
    return true;
}

static bool seize(const struct myst_call *call)
{
    return ptrace(PTRACE_SEIZE, myst_call_thread(call), 0, PTRACE_O_TRACESYSGOOD) == 0;
}

/* What the call returns. */
static void finish(const struct myst_call *call, int64_t result)
{
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, myst_call_thread(call), 0, &registers) != 0)
        return;
    registers.orig_rax = ~0ull;
    registers.rax = (uint64_t)result;
    registers.rip = call->notification.data.instruction_pointer;
    ptrace(PTRACE_SETREGS, myst_call_thread(call), 0, &registers);
}

int64_t myst_redirect(const struct myst_call *call, long number, const uint64_t arguments[6])
{
    if (!seize(call))
        return MYST_CONTINUE;
    if (!stop(call))
        return MYST_REDIRECTED;
    change(call, number, arguments);
    let_go(call, 0);
    return MYST_REDIRECTED;
}

int64_t myst_redirect_to_exit(const struct myst_call *call, int status)
{
    return myst_redirect(call, SYS_exit_group, (const uint64_t[6]){(uint64_t)status});
}

static size_t size_of(const char *path, char *const *arguments, size_t *count)
{
    size_t size = strlen(path) + 1;
    for (*count = 0; arguments[*count]; ++*count)
        size += strlen(arguments[*count]) + 1;
    return size + (*count + 1) * sizeof(uint64_t);
}

/* The list of pointers, and behind it the strings; the path comes last. Returns its address. */
static uint64_t lay_out(char *memory, uint64_t address, const char *path, char *const *arguments, size_t count)
{
    uint64_t *pointers = (uint64_t *)(void *)memory;
    size_t at = (count + 1) * sizeof *pointers;
    for (size_t i = 0; i < count; i++)
    {
        pointers[i] = address + at;
        strcpy(memory + at, arguments[i]);
        at += strlen(arguments[i]) + 1;
    }
    pointers[count] = 0;
    strcpy(memory + at, path);
    return address + at;
}

int64_t myst_redirect_to_program(const struct myst_call *call, const char *path, char *const *arguments,
                                 uint64_t environment)
{
    size_t count;
    int pending = 0;
    const size_t size = size_of(path, arguments, &count);
    char *memory = malloc(size);
    if (!memory || !seize(call))
    {
        free(memory);
        return MYST_CONTINUE;
    }
    if (stop(call))
    {
        const uint64_t address = allocate(call, size, &pending);
        const uint64_t program = address ? lay_out(memory, address, path, arguments, count) : 0;
        if (address && myst_call_write(call, address, memory, size) == 0)
            change(call, SYS_execve, (const uint64_t[6]){program, address, environment});
        else
            finish(call, -ENOMEM);
        let_go(call, pending);
    }
    free(memory);
    return MYST_REDIRECTED;
}

int64_t myst_redirect_to_part(const struct myst_call *call, const uint64_t whole[6], const uint64_t part[6])
{
    int pending = 0;
    if (!seize(call))
        return MYST_CONTINUE;
    if (stop(call))
    {
        const int64_t address = run(call, SYS_mmap, whole, &pending);
        if (is_error(address))
            finish(call, address);
        else
            change(call, SYS_mmap, (const uint64_t[6]){(uint64_t)address, part[1], part[2], part[3], part[4], part[5]});
        let_go(call, pending);
    }
    return MYST_REDIRECTED;
}

/* Below the stack pointer where there is memory, since memory of its own would stay with a parent whose memory the
 * thread shares (vfork(2)). 0 where there is none. */
static uint64_t find_room(const struct myst_call *call, size_t size, int *pending)
{
    static const char zeros[MAX_BELOW];
    struct user_regs_struct registers;
    if (!read_registers(call, &registers))
        return 0;
    const uint64_t at = (registers.rsp - RED_ZONE - size) & ~15ull;
    const bool fits = size <= sizeof zeros && myst_call_write(call, at, zeros, size) == 0;
    return fits ? at : allocate(call, size, pending);
}

int64_t myst_redirect_with_first_argument(const struct myst_call *call, const char *name, uint64_t *pointers,
                                          size_t count)
{
    const size_t list = (count + 1) * sizeof *pointers, size = strlen(name) + 1;
    int pending = 0;
    if (!seize(call))
        return MYST_CONTINUE;
    if (stop(call))
    {
        const uint64_t at = find_room(call, list + size, &pending);
        pointers[0] = at + list;
        if (at && myst_call_write(call, at, pointers, list) == 0 && myst_call_write(call, at + list, name, size) == 0)
            change(call, SYS_execve, (const uint64_t[6]){pointers[0], at, call->notification.data.args[2]});
        else
            finish(call, -ENOMEM);
        let_go(call, pending);
    }
    return MYST_REDIRECTED;
}

int64_t myst_redirect_without_actions(const struct myst_call *call, uint64_t signals)
{
    int pending = 0;
    if (!seize(call))
        return MYST_CONTINUE;
    if (stop(call))
    {
        const uint64_t action = find_room(call, SIGNAL_ACTION, &pending); /* zeros: by default, without flags */
        for (uint64_t signal = 1; action && signal <= 64; signal++)
            if (signals & 1ull << (signal - 1))
                run(call, SYS_rt_sigaction, (const uint64_t[6]){signal, action, 0, sizeof(uint64_t)}, &pending);
        change(call, call->notification.data.nr, (const uint64_t *)call->notification.data.args);
        let_go(call, pending);
    }
    return MYST_REDIRECTED;
}
