#include "stacks.h"

#include "../common/error.h"
#include "../common/sizes.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* A process that is stopped before the first instruction of its program. */
struct program
{
    pid_t pid;
    struct user_regs_struct registers;
    uint64_t stack_top;             /* end of the main thread's stack */
    uint64_t headers, header_count; /* of the program, in its memory */
    uint64_t pending;               /* signals that came meanwhile, a bit each */
    int status;                     /* as of waitpid, when it ended meanwhile */
};

/* Threads that are traced until they execute a program. The application itself asks for it and is not in here. */
static pid_t *expected;
static size_t expected_count;
static pid_t first_program;

void myst_expect_first_program(void)
{
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0)
        myst_refuse_errno("configuration: ThreadStackSize and ExecStack need ptrace, which this machine forbids or a "
                          "debugger uses");
}

void myst_note_first_program(pid_t application)
{
    first_program = application;
}

static pid_t *find_expected(pid_t thread)
{
    for (size_t i = 0; i < expected_count; i++)
        if (expected[i] == thread)
            return &expected[i];
    return NULL;
}

void myst_forget_thread(pid_t thread)
{
    pid_t *entry = find_expected(thread);
    if (entry)
        *entry = expected[--expected_count];
}

bool myst_expect_program(pid_t thread)
{
    if (thread == first_program || find_expected(thread))
        return true;
    pid_t *grown = realloc(expected, (expected_count + 1) * sizeof *grown);
    if (!grown)
        return false;
    expected = grown;
    if (ptrace(PTRACE_SEIZE, thread, 0, PTRACE_O_TRACEEXEC) != 0)
        return false;
    expected[expected_count++] = thread;
    return true;
}

static bool read_memory(const struct program *program, uint64_t address, void *to, size_t size)
{
    struct iovec here = {to, size}, there = {(void *)(uintptr_t)address, size};
    return process_vm_readv(program->pid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

/* Writes to read-only memory as well. */
static bool write_word(const struct program *program, uint64_t address, uint64_t word)
{
    return ptrace(PTRACE_POKEDATA, program->pid, address, word) == 0;
}

static bool read_word(const struct program *program, uint64_t address, uint64_t *word)
{
    return read_memory(program, address, word, sizeof *word);
}

/* Behind the string and the word of zeros that end the stack (Linux: fs/exec.c). */
static bool find_stack_top(struct program *program, uint64_t file_name)
{
    char c;
    do
        if (!read_memory(program, file_name++, &c, 1))
            return false;
    while (c);
    program->stack_top = myst_page_up(file_name + 8);
    return true;
}

/* The initial stack (System V ABI, AMD64 supplement, section 3.4.1). */
static bool read_auxiliary_vector(struct program *program)
{
    uint64_t at = program->registers.rsp, count, entry[2];
    if (!read_word(program, at, &count))
        return false;
    at += 8 * (count + 2);
    do /* the environment */
        if (!read_word(program, at, &count))
            return false;
    while (at += 8, count);
    for (;; at += sizeof entry)
    {
        if (!read_memory(program, at, entry, sizeof entry))
            return false;
        if (entry[0] == AT_NULL)
            return program->headers && program->stack_top;
        if (entry[0] == AT_PHDR)
            program->headers = entry[1];
        if (entry[0] == AT_PHNUM)
            program->header_count = entry[1];
        if (entry[0] == AT_EXECFN && !find_stack_top(program, entry[1]))
            return false;
    }
}

/* Lets the process run to a breakpoint; other signals wait. Returns false when it ended. */
static bool run_to_breakpoint(struct program *program)
{
    for (;;)
    {
        if (ptrace(PTRACE_CONT, program->pid, 0, 0) != 0)
            return false;
        while (waitpid(program->pid, &program->status, __WALL) < 0)
            if (errno != EINTR)
                return false;
        if (!WIFSTOPPED(program->status))
            return false;
        if (WSTOPSIG(program->status) == SIGTRAP && program->status >> 16 == 0)
            return true;
        if (program->status >> 16 == 0)
            program->pending |= 1ull << (WSTOPSIG(program->status) - 1);
    }
}

/* Lets the process make a system call. Returns false when it ended; *result is what the call returned. */
static bool make_call(struct program *program, long *result, long number, uint64_t a, uint64_t b, uint64_t c,
                      uint64_t d, uint64_t e, uint64_t f)
{
    static const unsigned char code[8] = {0x0f, 0x05, 0xcc}; /* syscall, int3 */
    struct user_regs_struct registers = program->registers;
    uint64_t saved, word;

    if (!read_word(program, registers.rip, &saved))
        return false;
    word = saved;
    memcpy(&word, code, 3);
    registers.rax = (unsigned long)number;
    registers.rdi = a;
    registers.rsi = b;
    registers.rdx = c;
    registers.r10 = d;
    registers.r8 = e;
    registers.r9 = f;
    if (!write_word(program, registers.rip, word) || ptrace(PTRACE_SETREGS, program->pid, 0, &registers) != 0 ||
        !run_to_breakpoint(program) || ptrace(PTRACE_GETREGS, program->pid, 0, &registers) != 0)
        return false;
    *result = (long)registers.rax;
    return write_word(program, program->registers.rip, saved) &&
           ptrace(PTRACE_SETREGS, program->pid, 0, &program->registers) == 0;
}

/* The stop lies within execve, whose result would take the place of a register that is set now. */
static bool leave_execve(struct program *program)
{
    const uint64_t entry = program->registers.rip;
    uint64_t saved;
    return read_word(program, entry, &saved) && write_word(program, entry, (saved & ~0xffull) | 0xcc) &&
           run_to_breakpoint(program) && write_word(program, entry, saved) &&
           ptrace(PTRACE_SETREGS, program->pid, 0, &program->registers) == 0;
}

/* As Mystikos does to a program's headers in memory: musl takes the size from there unless it is smaller than its
 * default. */
static bool set_size_in_header(struct program *program, uint64_t size)
{
    for (uint64_t i = 0; i < program->header_count; i++)
    {
        Elf64_Phdr header;
        uint64_t at = program->headers + i * sizeof header;
        if (!read_memory(program, at, &header, sizeof header))
            return false;
        if (header.p_type == PT_GNU_STACK && header.p_memsz < size)
            return write_word(program, at + offsetof(Elf64_Phdr, p_memsz), size);
    }
    return true;
}

/* glibc takes the limit of the main thread's stack, which must then not bound that stack any more: a page that
 * cannot be accessed does instead. */
static bool set_size_as_limit(struct program *program, uint64_t size, uint64_t main_stack)
{
    struct rlimit limit;
    long result;
    if (size <= main_stack)
        return true;
    if (prlimit(program->pid, RLIMIT_STACK, NULL, &limit) != 0)
        return false;
    limit.rlim_cur = size < limit.rlim_max ? size : limit.rlim_max; /* the application may have lowered it */
    if (!make_call(program, &result, SYS_mmap, program->stack_top - main_stack - MYST_PAGE, MYST_PAGE, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, (uint64_t)-1, 0))
        return false;
    errno = result < 0 ? (int)-result : 0;
    return result >= 0 && prlimit(program->pid, RLIMIT_STACK, &limit, NULL) == 0;
}

/* The main thread's stack as it is, and whatever is mapped from now on, as other threads' stacks. */
static bool make_stacks_executable(struct program *program)
{
    const uint64_t start = program->registers.rsp & ~(MYST_PAGE - 1);
    long result;
    if (!make_call(program, &result, SYS_mprotect, start, program->stack_top - start,
                   PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN, 0, 0, 0))
        return false;
    if (result == 0 && !make_call(program, &result, SYS_personality, READ_IMPLIES_EXEC, 0, 0, 0, 0, 0))
        return false;
    errno = result < 0 ? (int)-result : 0;
    return result >= 0;
}

static bool change(struct program *program, const struct myst_application *application)
{
    if (ptrace(PTRACE_GETREGS, program->pid, 0, &program->registers) != 0)
        return false;
    program->registers.orig_rax = ~0ul; /* no call to be started again */
    if (!leave_execve(program) || !read_auxiliary_vector(program))
        return false;
    if (application->thread_stack && (!set_size_in_header(program, application->thread_stack) ||
                                      !set_size_as_limit(program, application->thread_stack, application->main_stack)))
        return false;
    return !application->exec_stack || make_stacks_executable(program);
}

static void let_go(const struct program *program)
{
    ptrace(PTRACE_DETACH, program->pid, 0, 0);
    for (int signal = 1; signal <= 64; signal++)
        if (program->pending & 1ull << (signal - 1))
            kill(program->pid, signal);
}

/* A program never runs with other stacks than the configuration says. */
static bool prepare(const struct myst_application *application, pid_t pid, int *status)
{
    struct program program = {.pid = pid, .status = *status};
    if (!change(&program, application))
    {
        if (!WIFSTOPPED(program.status))
        {
            *status = program.status;
            return true;
        }
        int error = errno;
        kill(pid, SIGKILL);
        myst_note("stopped", "process %d: ThreadStackSize or ExecStack cannot be honoured: %s", (int)pid,
                  strerror(error));
    }
    let_go(&program);
    return false;
}

bool myst_take_stop(const struct myst_application *application, pid_t pid, int *status)
{
    const int signal = WSTOPSIG(*status), event = *status >> 16;
    const bool is_first = pid == first_program && event == 0 && signal == SIGTRAP;

    if (is_first || event == PTRACE_EVENT_EXEC)
    {
        unsigned long former = (unsigned long)pid;
        if (is_first)
            first_program = 0;
        else
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &former);
        myst_forget_thread((pid_t)former);
        return prepare(application, pid, status);
    }
    if (event == PTRACE_EVENT_STOP &&
        (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU))
        ptrace(PTRACE_LISTEN, pid, 0, 0);
    else
        ptrace(PTRACE_CONT, pid, 0, event ? 0 : signal);
    return false;
}
