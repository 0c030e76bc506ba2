#include "filter.h"

#include "../common/error.h"
#include "../common/linux_version.h"
#include "../common/sizes.h"
#include "calls.h"
#include "policy.h"
#include "rules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define ARCHITECTURE_X86_64 0xc000003eu /* AUDIT_ARCH_X86_64 */
#define MAX_INSTRUCTIONS 4096           /* BPF_MAXINSNS */

/* Numbers from `first` up to the next range's are treated alike. */
struct range
{
    unsigned first;
    int action;
};

struct filter
{
    const struct myst_application *application;
    struct range ranges[MYST_CALL_COUNT + 8];
    size_t range_count;
    struct sock_filter program[MAX_INSTRUCTIONS];
    size_t size;
    bool asks;   /* some call is not decided by the filter alone */
    bool serves; /* calls that process 1 serves are given to it */
};

static struct sock_filter *emit(struct filter *filter, struct sock_filter instruction)
{
    if (filter->size == MAX_INSTRUCTIONS)
        myst_refuse("the system call filter is too long");
    filter->program[filter->size] = instruction;
    return &filter->program[filter->size++];
}

#define EMIT(...) emit(filter, (struct sock_filter)__VA_ARGS__)

/* Refused calls are told by the watching process where the user wants to know of them. */
static void emit_action(struct filter *filter, int action)
{
    unsigned result = SECCOMP_RET_USER_NOTIF;
    const struct myst_application *application = filter->application;
    const bool is_watched = application->thread_stack || application->exec_stack;
    const bool is_optional = action == MYST_SERVE || (action == MYST_PROGRAM && !is_watched);
    if (action == MYST_ALLOW || (is_optional && !filter->serves))
        result = SECCOMP_RET_ALLOW;
    else if (action == MYST_SUCCEED)
        result = SECCOMP_RET_ERRNO;
    else if (action == MYST_CRASH && !filter->serves)
        result = SECCOMP_RET_ERRNO | EFAULT;
    else if (action == MYST_GROUP && !filter->serves)
        result = SECCOMP_RET_ERRNO | ESRCH;
    else if (action > 0 && !filter->application->trace)
        result = SECCOMP_RET_ERRNO | (unsigned)action;
    filter->asks |= result == SECCOMP_RET_USER_NOTIF;
    EMIT(BPF_STMT(BPF_RET | BPF_K, result));
}

/* As myst_clone_action. */
static void emit_clone(struct filter *filter)
{
    EMIT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])));
    EMIT(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MYST_CLONE_NAMESPACES, 0, 1));
    emit_action(filter, EPERM);
    EMIT(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MYST_CLONE_THREAD, 0, 1));
    emit_action(filter, MYST_ALLOW);
    EMIT(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, MYST_CLONE_SPAWN));
    EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MYST_CLONE_SPAWN, 0, 1));
    emit_action(filter, MYST_ALLOW);
    emit_action(filter, myst_clone_action(filter->application, 0));
}

static void emit_persona(struct filter *filter)
{
    EMIT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])));
    EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, READ_IMPLIES_EXEC, 0, 1));
    emit_action(filter, MYST_ALLOW);
    emit_action(filter, myst_unhandled_action(filter->application));
}

/* As myst_ioctl_action. The system looks at the lower half of the request only, too. */
static void emit_ioctl(struct filter *filter)
{
    const unsigned *refused = myst_refused_requests, *kinds = myst_refused_kinds;
    EMIT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])));
    for (size_t i = 0; i < MYST_REFUSED_REQUESTS; i++)
    {
        EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused[i], 0, 1));
        emit_action(filter, EPERM);
    }
    EMIT(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, MYST_KIND_OF_REQUEST));
    for (size_t i = 0; i < MYST_REFUSED_KINDS; i++)
    {
        EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kinds[i], 0, 1));
        emit_action(filter, ENOTTY);
    }
    emit_action(filter, MYST_ALLOW);
}

/* A jump that leads behind the rule, whose end is not known yet. */
#define OUT 255

static void emit_load(struct filter *filter, unsigned argument, bool upper)
{
    EMIT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[argument]) + 4 * upper));
}

static void emit_test(struct filter *filter, unsigned operation, unsigned value, unsigned holds, unsigned fails)
{
    EMIT(BPF_JUMP(BPF_JMP | operation | BPF_K, value, (uint8_t)holds, (uint8_t)fails));
}

/* Against the same half of another argument. */
static void emit_comparison(struct filter *filter, const struct myst_condition *condition, bool upper)
{
    emit_load(filter, condition->value, upper);
    EMIT(BPF_STMT(BPF_MISC | BPF_TAX, 0));
    emit_load(filter, condition->argument, upper);
    EMIT(BPF_JUMP(BPF_JMP | (upper ? BPF_JEQ : BPF_JGE) | BPF_X, 0, upper ? 0 : OUT, upper ? OUT : 0));
}

/* The upper half is in the accumulator. */
static void emit_low_address(struct filter *filter, unsigned argument)
{
    emit_test(filter, BPF_JEQ, 0, 0, OUT);
    emit_load(filter, argument, false);
    emit_test(filter, BPF_JEQ, 0, OUT, 0);
    emit_test(filter, BPF_JGE, MYST_LOWEST_ADDRESS, OUT, 0);
}

static void emit_condition(struct filter *filter, const struct myst_condition *condition)
{
    const unsigned argument = condition->argument, value = condition->value;
    switch (condition->test)
    {
    case MYST_ANYTHING:
        return;
    case MYST_IS_LESS:
        emit_comparison(filter, condition, true);
        emit_comparison(filter, condition, false);
        return;
    case MYST_IS_SECRET:
        emit_load(filter, argument, true);
        emit_test(filter, BPF_JEQ, (unsigned)(filter->application->secret >> 32), 0, OUT);
        emit_load(filter, argument, false);
        emit_test(filter, BPF_JEQ, (unsigned)filter->application->secret, 0, OUT);
        return;
    case MYST_IS_LOW:
        emit_load(filter, argument, true);
        emit_low_address(filter, argument);
        return;
    case MYST_IS_BELOW_4G:
        emit_load(filter, argument, true);
        emit_test(filter, BPF_JEQ, 0, 0, OUT);
        emit_load(filter, argument, false);
        emit_test(filter, BPF_JEQ, 0, OUT, 0);
        return;
    case MYST_IS_WILD:
        emit_load(filter, argument, true);
        emit_test(filter, BPF_JGE, MYST_USER_SPACE_UPPER, 4, 0);
        emit_low_address(filter, argument);
        return;
    case MYST_IS_NULL:
        emit_load(filter, argument, true);
        emit_test(filter, BPF_JEQ, 0, 0, OUT);
        emit_load(filter, argument, false);
        emit_test(filter, BPF_JEQ, 0, 0, OUT);
        return;
    }
    emit_load(filter, argument, false);
    const bool fits = condition->test != MYST_IS_NOT && condition->test != MYST_LACKS;
    const unsigned operation = condition->test == MYST_AT_LEAST                               ? BPF_JGE
                               : condition->test == MYST_HAS || condition->test == MYST_LACKS ? BPF_JSET
                                                                                              : BPF_JEQ;
    emit_test(filter, operation, value, fits ? 0 : OUT, fits ? OUT : 0);
}

static void emit_one_rule(struct filter *filter, const struct myst_rule *rule)
{
    const size_t begin = filter->size;
    for (size_t i = 0; i < MYST_CONDITIONS; i++)
        emit_condition(filter, &rule->when[i]);
    emit_action(filter, rule->action == MYST_UNHANDLED ? myst_unhandled_action(filter->application) : rule->action);
    for (size_t i = begin; i < filter->size; i++)
    {
        struct sock_filter *instruction = &filter->program[i];
        const uint8_t out = (uint8_t)(filter->size - i - 1);
        if (BPF_CLASS(instruction->code) != BPF_JMP)
            continue;
        instruction->jt = instruction->jt == OUT ? out : instruction->jt;
        instruction->jf = instruction->jf == OUT ? out : instruction->jf;
    }
}

static bool is_ruled(const struct filter *filter, unsigned number)
{
    unsigned at = 0;
    return myst_next_rule(filter->application, number, &at);
}

/* As myst_find_rule. */
static void emit_rules(struct filter *filter, unsigned number)
{
    const struct myst_rule *rule;
    unsigned at = 0;
    while ((rule = myst_next_rule(filter->application, number, &at)))
        emit_one_rule(filter, rule);
}

static void emit_rule(struct filter *filter, unsigned number, int action)
{
    emit_rules(filter, number);
    switch (action)
    {
    case MYST_CLONE:
        emit_clone(filter);
        return;
    case MYST_IOCTL:
        emit_ioctl(filter);
        return;
    case MYST_PERSONA:
        emit_persona(filter);
        return;
    default:
        emit_action(filter, action);
    }
}

/* A binary search: as deep as the logarithm of the number of ranges. */
static void emit_search(struct filter *filter, size_t begin, size_t end)
{
    if (end - begin == 1)
    {
        emit_rule(filter, filter->ranges[begin].first, filter->ranges[begin].action);
        return;
    }
    size_t middle = begin + (end - begin) / 2;
    EMIT(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, filter->ranges[middle].first, 0, 1));
    size_t jump = filter->size;
    EMIT(BPF_STMT(BPF_JMP | BPF_JA, 0));
    emit_search(filter, begin, middle);
    filter->program[jump].k = (unsigned)(filter->size - jump - 1);
    emit_search(filter, middle, end);
}

static void add_range(struct filter *filter, unsigned first, int action)
{
    const struct range *last = filter->range_count > 0 ? &filter->ranges[filter->range_count - 1] : NULL;
    if (last && last->action == action && !is_ruled(filter, first) && !is_ruled(filter, last->first))
        return;
    filter->ranges[filter->range_count++] = (struct range){first, action};
}

static void add_ranges(struct filter *filter)
{
    static const unsigned beyond[] = {MYST_CALL_COUNT, MYST_OWN_CALLS_FIRST, MYST_OWN_CALLS_END};
    for (unsigned number = 0; number < MYST_CALL_COUNT; number++)
        add_range(filter, number, myst_call_action(filter->application, number));
    for (size_t i = 0; i < MYST_COUNT(beyond); i++)
        add_range(filter, beyond[i], myst_call_action(filter->application, beyond[i]));
    add_range(filter, 0x40000000u, ENOSYS); /* the x32 kind */
}

static long set(struct filter *filter)
{
    filter->range_count = filter->size = 0;
    filter->asks = false;
    add_ranges(filter);
    /* Calls of the 32-bit kind have other numbers. */
    EMIT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
    EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE_X86_64, 1, 0));
    EMIT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
    EMIT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
    emit_search(filter, 0, filter->range_count);

    struct sock_fprog program = {(unsigned short)filter->size, filter->program};
    /* Signals wait until process 1 has answered: no call fails with EINTR that would not do so otherwise. */
    const unsigned waits = myst_linux_is_at_least(5, 19) ? SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV : 0;
    const unsigned flags = filter->asks ? SECCOMP_FILTER_FLAG_NEW_LISTENER | waits : 0;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

/* A container's filter may forbid process 1 what it needs to answer for the system: taking the calls, reading what they
 * point to, and letting the system go on with one. */
static bool can_serve(const struct myst_application *application)
{
    char from = 0, to;
    const struct iovec here = {&to, 1}, there = {&from, 1};
    const bool takes = ioctl(-1, SECCOMP_IOCTL_NOTIF_RECV, NULL) != 0 && errno == EBADF;
    return takes && process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1 && application->may_look_into_children &&
           myst_linux_is_at_least(5, 5);
}

int myst_set_filter(const struct myst_application *application)
{
    static struct filter filter;
    filter.application = application;
    filter.serves = can_serve(application);
    long result = set(&filter);
    if (result < 0 && (errno == EINVAL || errno == EBUSY))
    {
        filter.serves = false;
        result = set(&filter);
    }
    if (result >= 0 && !filter.serves)
        myst_warn("the system calls cannot be watched: users, owners of files and limits are the machine's");
    if (result < 0 && filter.asks && errno == EINVAL)
        myst_refuse("cannot watch the system calls, which needs Linux 5.0; UnhandledSyscallEnosys in the configuration "
                    "needs no watching");
    if (result < 0 && filter.asks && errno == EBUSY)
        myst_refuse("cannot watch the system calls: another program does; UnhandledSyscallEnosys in the configuration "
                    "needs no watching");
    if (result < 0)
        myst_refuse_errno("cannot set the system call filter");
    return filter.asks ? (int)result : -1;
}
