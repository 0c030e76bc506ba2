#include "budget.h"

#include "../common/file_limits.h"
#include "../common/sizes.h"
#include "proc_files.h"
#include "process_files.h"
#include "process_list.h"
#include "shared_memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#define SHORTEST_MS 10
#define LONGEST_MS 500
#define PER_THREAD (256u << 10) /* bytes that a thread takes of Mystikos' kernel */

struct process
{
    pid_t pid, parent;
    bool executed;        /* a program since it began; until then it has what its parent has */
    uint64_t size_before; /* of what it had when it was about to execute its last one */
    bool is_there;        /* seen at the last look */
    uint64_t size;        /* bytes of all that is mapped */
    uint64_t own;         /* bytes of it that can be written to and are its own */
    uint64_t shared;      /* bytes of it that are no file's and others may have as well */
    uint64_t threads, limit;
};

static struct process processes[2 * MYST_MAX_THREADS];
static size_t process_count;
static uint64_t files;  /* bytes */
static uint64_t shared; /* bytes, of memory that processes share */
static int64_t next_look;
static int interval = SHORTEST_MS;
static pid_t first; /* the application's process */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Leaves the files what the processes leave, and tells what they take. */
static uint64_t limit_files(const struct myst_application *application, myst_bytes_of_processes taken)
{
    myst_bytes_of_files bytes;
    const int limits = application->file_limits;
    if (limits < 0 || send(limits, &taken, sizeof taken, MSG_NOSIGNAL) != sizeof taken ||
        recv(limits, &bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
        return files;
    return bytes;
}

static struct process *find(pid_t pid)
{
    for (size_t i = 0; i < process_count; i++)
        if (processes[i].pid == pid)
            return &processes[i];
    return NULL;
}

static struct process *find_or_add(pid_t pid)
{
    struct process *process = find(pid);
    if (process || process_count == MYST_COUNT(processes))
        return process;
    process = &processes[process_count++];
    *process = (struct process){.pid = pid};
    myst_show_process(pid);
    return process;
}

/* As /proc/PID/stat and statm tell (proc(5)). */
static bool measure(int proc, struct process *process)
{
    char text[1024];
    unsigned long size, data;
    int parent;
    long threads;
    myst_read_process_file(proc, process->pid, "stat", text, sizeof text);
    const char *at = myst_fields_of_stat(text);
    if (!at ||
        sscanf(at, "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld", &parent, &threads) != 2)
        return false;
    myst_read_process_file(proc, process->pid, "statm", text, sizeof text);
    if (sscanf(text, "%lu %*u %*u %*u %*u %lu", &size, &data) != 2)
        return false;
    process->parent = parent;
    process->threads = (uint64_t)threads;
    process->size = size * MYST_PAGE;
    process->own = data * MYST_PAGE;
    return true;
}

/* True when something began, ended or grew. */
static bool take_stock(const struct myst_application *application)
{
    static pid_t listed[MYST_COUNT(processes)];
    const int count = myst_list_processes(application, listed, MYST_COUNT(listed));
    bool changed = false;
    for (size_t i = 0; i < process_count; i++)
        processes[i].is_there = false;
    for (int i = 0; i < count; i++)
    {
        struct process *process = find_or_add(listed[i]);
        const uint64_t former = process ? process->size : 0;
        if (process && measure(application->proc, process))
            process->is_there = true;
        changed |= process && process->size != former;
    }
    for (size_t i = process_count; count >= 0 && i-- > 0;)
    {
        if (processes[i].is_there)
            continue;
        myst_hide_process(processes[i].pid);
        processes[i] = processes[--process_count];
        changed = true;
    }
    return changed;
}

/* True when it became more or less. */
static bool take_stock_of_shared_memory(int proc)
{
    const uint64_t former = shared;
    if (!myst_is_memory_shared())
        return false;
    myst_begin_shared_memory();
    for (size_t i = 0; i < process_count; i++)
        processes[i].shared = myst_measure_shared_memory(proc, processes[i].pid);
    shared = myst_end_shared_memory();
    return shared != former;
}

/* What a process takes that nobody else has. */
static uint64_t taken_by(const struct process *process)
{
    const bool has_begun = process->executed && process->size != process->size_before;
    const struct process *parent = has_begun ? NULL : find(process->parent);
    if (!has_begun && process->pid == first)
        return 0; /* it is not the application yet */
    if (!parent)
        return process->own;
    return process->own > parent->own ? process->own - parent->own : 0;
}

static void limit(const struct myst_application *application, struct process *process, uint64_t taken_by_others)
{
    struct rlimit kept;
    const uint64_t shared_by_others = shared > process->shared ? shared - process->shared : 0;
    uint64_t taken = taken_by_others + files + shared_by_others + (process->threads - 1) * PER_THREAD;
    /* A stack that grows later is there from the start on Mystikos. */
    if (taken_by_others + files + shared_by_others > 0)
        taken -= taken < application->main_stack ? taken : application->main_stack;
    const uint64_t bytes = taken < application->address_space ? application->address_space - taken : 0;
    if (bytes == process->limit || prlimit(process->pid, RLIMIT_AS, NULL, &kept) != 0)
        return;
    kept.rlim_cur = bytes;
    if (prlimit(process->pid, RLIMIT_AS, &kept, NULL) == 0)
        process->limit = bytes;
}

static uint64_t taken_by_all(void)
{
    uint64_t taken = 0;
    for (size_t i = 0; i < process_count; i++)
        taken += taken_by(&processes[i]);
    return taken;
}

static void limit_all(const struct myst_application *application)
{
    const uint64_t taken = taken_by_all();
    for (size_t i = 0; i < process_count; i++)
        limit(application, &processes[i], taken - taken_by(&processes[i]));
}

static bool is_kept(const struct myst_application *application)
{
    return application->isolated && application->proc >= 0 && !application->as_linux;
}

static void look(const struct myst_application *application)
{
    const uint64_t former = files;
    const bool grew = take_stock(application), shares = take_stock_of_shared_memory(application->proc);
    files = limit_files(application, taken_by_all() + shared);
    const bool changed = grew || shares || files != former;
    limit_all(application);
    interval = changed ? SHORTEST_MS : 2 * interval < LONGEST_MS ? 2 * interval : LONGEST_MS;
    next_look = now() + interval;
}

void myst_budget_begin(const struct myst_application *application)
{
    first = application->process;
    if (is_kept(application))
        look(application);
}

int myst_budget_timeout(void)
{
    const int64_t left = next_look - now();
    return next_look == 0 ? -1 : left > 0 ? (int)left : 0;
}

void myst_budget_look(const struct myst_application *application)
{
    if (is_kept(application) && next_look && now() >= next_look)
        look(application);
}

void myst_budget_expect(void)
{
    if (next_look == 0 || interval == SHORTEST_MS)
        return;
    interval = SHORTEST_MS;
    next_look = now() + interval;
}

void myst_budget_note_program(const struct myst_call *call)
{
    if (!is_kept(call->application))
        return;
    const pid_t pid = myst_call_process(call);
    struct process *process = find_or_add(pid);
    myst_forget_processes();
    if (process_count > 1)
    {
        look(call->application);
        process = find(pid);
    }
    else if (process)
        measure(call->application->proc, process);
    if (!process)
        return;
    process->executed = true;
    process->size_before = process->size;
}

/* A thread is about to begin, whose stack this will be. */
static void limit_for_thread(const struct myst_call *call)
{
    uint64_t taken = 0;
    struct process *process = find_or_add(myst_call_process(call));
    if (!process || !measure(call->application->proc, process))
        return;
    for (size_t i = 0; i < process_count; i++)
        taken += &processes[i] == process ? 0 : taken_by(&processes[i]);
    limit(call->application, process, taken);
}

int64_t myst_serve_budget(const struct myst_call *call)
{
    if (!is_kept(call->application))
        return MYST_CONTINUE;
    if (call->notification.data.nr == SYS_clone || call->notification.data.nr == SYS_fork)
    {
        myst_budget_expect();
        myst_forget_processes();
    }
    if (call->notification.data.nr != SYS_mmap)
        return MYST_CONTINUE;
    if (myst_makes_shared_memory(call))
    {
        look(call->application);
        myst_expect_shared_memory(call);
    }
    else if ((unsigned)myst_call_argument(call, 2) == PROT_NONE)
        limit_for_thread(call);
    else if (myst_call_argument(call, 1) >= MYST_LARGE_MAPPING)
        look(call->application);
    return MYST_CONTINUE;
}
