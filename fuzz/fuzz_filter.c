/* The system call filter against the rules that it is made from: a call that the filter decides about is decided as the
 * rules say, whatever its arguments. The input: a byte of settings, the number of the call, its six arguments. */
#include "common/application.h"
#include "crt/filter.h"
#include "crt/policy.h"
#include "crt/rules.h"
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SETTINGS 256
#define X86_64 0xc000003eu

static struct sock_filter *programs[SETTINGS];
static size_t sizes[SETTINGS];
static unsigned setting;

long __wrap_syscall(long number, ...);

/* Keeps what would be set. */
long __wrap_syscall(long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    (void)va_arg(arguments, int);
    (void)va_arg(arguments, unsigned);
    const struct sock_fprog *program = va_arg(arguments, const struct sock_fprog *);
    va_end(arguments);
    PROMISE(number == SYS_seccomp);
    sizes[setting] = program->len;
    programs[setting] = malloc(program->len * sizeof *program->filter);
    memcpy(programs[setting], program->filter, program->len * sizeof *program->filter);
    return 0;
}

static struct myst_application application_of(unsigned settings)
{
    return (struct myst_application){
        .fork_allowed = settings & 1,
        .unhandled_enosys = settings & 2,
        .exec_stack = settings & 4,
        .limits_processors = settings & 8,
        .no_brk = settings & 16,
        .as_linux = settings & 32,
        .host_directories = settings & 64,
        .allow_unhandled = settings & 128,
        .secret = 7,
        .isolated = !(settings & 1) || !(settings & 2),
        .may_look_into_children = true,
    };
}

/* As the system does (Linux: net/core/filter.c), for the instructions that the filter has. */
static unsigned run(const struct sock_filter *program, size_t size, const struct seccomp_data *data)
{
    uint32_t a = 0, x = 0;
    for (size_t at = 0;; at++)
    {
        PROMISE(at < size);
        const struct sock_filter *i = &program[at];
        const uint32_t operand = BPF_SRC(i->code) == BPF_X ? x : i->k;
        bool jumps;
        switch (BPF_CLASS(i->code))
        {
        case BPF_LD:
            PROMISE(i->k % 4 == 0 && i->k < sizeof *data);
            memcpy(&a, (const char *)data + i->k, sizeof a);
            continue;
        case BPF_MISC:
            PROMISE(BPF_MISCOP(i->code) == BPF_TAX);
            x = a;
            continue;
        case BPF_ALU:
            PROMISE(BPF_OP(i->code) == BPF_AND);
            a &= operand;
            continue;
        case BPF_RET:
            return i->k;
        }
        PROMISE(BPF_CLASS(i->code) == BPF_JMP);
        switch (BPF_OP(i->code))
        {
        case BPF_JA:
            at += i->k;
            continue;
        case BPF_JEQ:
            jumps = a == operand;
            break;
        case BPF_JGE:
            jumps = a >= operand;
            break;
        default:
            PROMISE(BPF_OP(i->code) == BPF_JSET);
            jumps = a & operand;
        }
        at += jumps ? i->jt : i->jf;
    }
}

static int expected_action(const struct myst_application *application, unsigned number, const uint64_t *arguments)
{
    const struct myst_rule *rule = myst_find_rule(application, number, arguments);
    int action = rule ? rule->action : myst_call_action(application, number);
    switch (action)
    {
    case MYST_UNHANDLED:
        return myst_unhandled_action(application);
    case MYST_CLONE:
        return myst_clone_action(application, (unsigned)arguments[0]);
    case MYST_IOCTL:
        return myst_ioctl_action((unsigned)arguments[1]);
    case MYST_PERSONA:
        return (unsigned)arguments[0] == READ_IMPLIES_EXEC ? MYST_ALLOW : myst_unhandled_action(application);
    default:
        return action;
    }
}

static unsigned expected_result(int action)
{
    if (action == MYST_ALLOW)
        return SECCOMP_RET_ALLOW;
    if (action == MYST_SUCCEED)
        return SECCOMP_RET_ERRNO;
    return action > 0 ? SECCOMP_RET_ERRNO | (unsigned)action : SECCOMP_RET_USER_NOTIF;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seccomp_data call = {.arch = X86_64};
    uint32_t number;
    if (size != 1 + sizeof number + sizeof call.args)
        return 0;
    setting = data[0] % SETTINGS;
    memcpy(&number, data + 1, sizeof number);
    memcpy(call.args, data + 1 + sizeof number, sizeof call.args);
    call.nr = (int)(number < 1024 ? number : number % 512);
    const struct myst_application application = application_of(setting);
    if (!programs[setting])
        myst_set_filter(&application);
    const int action = expected_action(&application, (unsigned)call.nr, (const uint64_t *)call.args);
    PROMISE(run(programs[setting], sizes[setting], &call) == expected_result(action));
    call.arch = 0x40000003; /* of 32 bits */
    PROMISE(run(programs[setting], sizes[setting], &call) == (SECCOMP_RET_ERRNO | ENOSYS));
    return 0;
}
