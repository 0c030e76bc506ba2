#include "main_stack.h"

#include "../common/sizes.h"
#include "process_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define USED_BY_MYSTIKOS (8u << 10)
#define START_STACK 28 /* field of /proc/PID/stat (proc(5)) */

/* The stack pointer that the program began with, or 0. */
static uint64_t start_of_stack(const struct myst_call *call)
{
    char text[1024];
    myst_read_process_file(call->application->proc, myst_call_thread(call), "stat", text, sizeof text);
    const char *at = myst_fields_of_stat(text);
    for (int field = 3; at && field < START_STACK; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

/* The page boundary above the end of the environment's pointers (System V ABI, AMD64 supplement, section 3.4.1), from
 * which musl looks; 0 where there is none. */
static uint64_t find_top(const struct myst_call *call)
{
    uint64_t at = start_of_stack(call), word;
    if (!at || myst_call_read(call, at, &word, sizeof word) != 0)
        return 0;
    at += sizeof word * (word + 2);
    do
    {
        if (myst_call_read(call, at, &word, sizeof word) != 0)
            return 0;
        at += sizeof word;
    } while (word);
    return myst_page_up(at);
}

int64_t myst_serve_main_stack(const struct myst_call *call)
{
    static struct
    {
        pid_t thread;
        uint64_t next, top;
    } last;
    const uint64_t address = myst_call_argument(call, 0), size = call->application->main_stack;
    const pid_t thread = myst_call_thread(call);
    if (call->notification.data.nr != SYS_mremap || myst_call_argument(call, 2) != 2 * MYST_PAGE ||
        call->application->proc < 0)
        return MYST_CONTINUE;
    if (thread != last.thread || address != last.next)
        last.top = find_top(call);
    last.thread = thread;
    last.next = address - MYST_PAGE;
    if (address >= last.top || address + size < last.top)
        return MYST_CONTINUE;
    return address >= last.top - size + USED_BY_MYSTIKOS ? -ENOMEM : -EFAULT;
}
