/* What Mystikos does with certain arguments of a system call, by the arguments alone: a table that the filter is made
 * from, and that decides about the calls that reach process 1. */
#ifndef MYST_RULES_H
#define MYST_RULES_H

#include "../common/application.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define MYST_LOWEST_ADDRESS 0x100000u /* that programs have: they are linked above it */
#define MYST_USER_SPACE_UPPER 0x8000u /* where user space ends, its upper half */

/* The flags of the sendmsg by which process 1 gets the filter, which it cannot serve before. What no program can know
 * tells it from the application's: the fourth argument, of which the system takes no notice. */
#define MYST_HAND_OVER (MSG_NOSIGNAL | MSG_EOR)

enum myst_test
{
    MYST_ANYTHING,
    MYST_IS, /* the argument's lower half is `value`, and so for the next four */
    MYST_IS_NOT,
    MYST_HAS, /* one of the bits */
    MYST_LACKS,
    MYST_AT_LEAST,
    MYST_IS_NULL,     /* all of it is 0 */
    MYST_IS_LOW,      /* an address below the first that programs have, but not 0 */
    MYST_IS_WILD,     /* an address that no program has: low, or beyond user space */
    MYST_IS_BELOW_4G, /* an address there, but not 0 */
    MYST_IS_LESS,     /* than argument `value`, with the same upper half */
    MYST_IS_SECRET,   /* the application's `secret`, all of it */
};

struct myst_condition
{
    unsigned char argument, test;
    unsigned value;
};

#define MYST_CONDITIONS 2

/* The first rule whose conditions all hold decides, before myst_call_action. */
struct myst_rule
{
    unsigned short call;
    struct myst_condition when[MYST_CONDITIONS];
    int action; /* as in policy.h, or an errno */
};

/* True where sockets of the host lie in reach, in directories that are mounted, and are to be kept from the
 * application.
 */
bool myst_guards_sockets(const struct myst_application *application);

/* The rule about the call that comes behind the one `at`, which is 0 at the beginning and is moved on; NULL behind the
 * last. */
const struct myst_rule *myst_next_rule(const struct myst_application *application, unsigned call, unsigned *at);

/* The rule that decides, or NULL. */
const struct myst_rule *myst_find_rule(const struct myst_application *application, unsigned number,
                                       const uint64_t *arguments);

#endif
