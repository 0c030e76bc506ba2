/* The stack and the headers of a program that is stopped before its first instruction: whatever its memory holds, they
 * are read and changed within bounds. The input is where the registers point, what waitpid reports, and the memory.
 * Linked with --wrap for the calls by which another process is reached: here it is this memory. */
#include "common/sizes.h"
#include "crt/stacks.h"
#include "fuzz.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#define ADDRESS 0x10000u
#define PROCESS 1234
#define REPORTS 8u
#define FIXED (2 + 2 + 1 + REPORTS)

static uint8_t *memory;
static size_t memory_size, reads;
static uint16_t stack_pointer, instruction_pointer;
static const uint8_t *reports;
static size_t reported;
static int detached, killed;

long __wrap_ptrace(int request, pid_t pid, void *address, void *data);
ssize_t __wrap_process_vm_readv(pid_t pid, const struct iovec *here, unsigned long count, const struct iovec *there,
                                unsigned long there_count, unsigned long flags);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
int __wrap_prlimit(pid_t pid, int resource, const struct rlimit *set, struct rlimit *get);
int __wrap_kill(pid_t pid, int number);
void __wrap_myst_note(const char *subject, const char *format, ...);

/* The bytes at an address of the process; NULL where not all of them are there. */
static uint8_t *at(uint64_t address, size_t size)
{
    const uint64_t offset = address - ADDRESS;
    return address >= ADDRESS && offset <= memory_size && size <= memory_size - offset ? memory + offset : NULL;
}

static long poke(void *address, void *data)
{
    uint8_t *word = at((uint64_t)address, 8);
    if (!word)
        return errno = EIO, -1;
    memcpy(word, &data, 8);
    return 0;
}

long __wrap_ptrace(int request, pid_t pid, void *address, void *data)
{
    PROMISE(pid == PROCESS);
    switch (request)
    {
    case PTRACE_POKEDATA:
        return poke(address, data);
    case PTRACE_GETREGS:
        memset(data, 0, sizeof(struct user_regs_struct));
        ((struct user_regs_struct *)data)->rsp = ADDRESS + stack_pointer;
        ((struct user_regs_struct *)data)->rip = ADDRESS + instruction_pointer;
        return 0;
    case PTRACE_DETACH:
        detached++;
        return 0;
    default:
        PROMISE(request == PTRACE_SETREGS || request == PTRACE_CONT || request == PTRACE_GETEVENTMSG ||
                request == PTRACE_LISTEN);
        return 0;
    }
}

ssize_t __wrap_process_vm_readv(pid_t pid, const struct iovec *here, unsigned long count, const struct iovec *there,
                                unsigned long there_count, unsigned long flags)
{
    PROMISE(pid == PROCESS && count == 1 && there_count == 1 && flags == 0 && here->iov_len == there->iov_len);
    /* Nothing is read more often than a few times. */
    PROMISE(++reads < 64 * (memory_size + 64));
    const uint8_t *from = at((uint64_t)there->iov_base, there->iov_len);
    if (!from)
        return errno = EFAULT, -1;
    memcpy(here->iov_base, from, here->iov_len);
    return (ssize_t)here->iov_len;
}

pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
    PROMISE(pid == PROCESS && options == __WALL);
    const uint8_t report = reported < REPORTS ? reports[reported] : 255;
    reported++;
    if (report == 255) /* killed */
        *status = SIGKILL;
    else
        *status = (report % 3 ? SIGTRAP : 1 + report % 64) << 8 | 0x7f | (report & 128 ? PTRACE_EVENT_STOP << 16 : 0);
    return pid;
}

int __wrap_prlimit(pid_t pid, int resource, const struct rlimit *set, struct rlimit *get)
{
    PROMISE(pid == PROCESS && resource == RLIMIT_STACK);
    if (get)
        *get = (struct rlimit){1u << 20, 1u << 30};
    PROMISE(!set || set->rlim_cur <= set->rlim_max);
    return 0;
}

int __wrap_kill(pid_t pid, int number)
{
    PROMISE(pid == PROCESS && number > 0 && number <= 64);
    killed |= number == SIGKILL;
    return 0;
}

void __wrap_myst_note(const char *subject, const char *format, ...)
{
    PROMISE(*subject && *format);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < FIXED)
        return 0;
    memcpy(&stack_pointer, data, 2);
    memcpy(&instruction_pointer, data + 2, 2);
    const uint8_t settings = data[4];
    reports = data + 5;
    memory_size = size - FIXED;
    memory = malloc(memory_size + 1);
    PROMISE(memory);
    memcpy(memory, data + FIXED, memory_size);
    reads = reported = 0;
    detached = killed = 0;

    struct myst_application application = {.main_stack = 1u << 20};
    application.exec_stack = settings & 1;
    application.thread_stack = settings & 2 ? (uint64_t)(settings >> 2) << 16 : 0;
    int status = SIGTRAP << 8 | 0x7f;
    myst_note_first_program(PROCESS);
    const bool ended = myst_take_stop(&application, PROCESS, &status);
    /* It ended, or it goes on with its stacks as asked for, or not at all. */
    PROMISE(ended ? !WIFSTOPPED(status) : detached == 1);
    free(memory);
    return 0;
}
