/* Users and groups inside. Outside there is one user and one group, the caller's, which the system knows as 0: other
 * ids are kept here, by the rules of the Mystikos kernel, which holds no file against them. */
#ifndef MYST_USERS_H
#define MYST_USERS_H

#include "call.h"

#include <sys/resource.h>

/* Which ids a process has is kept by the system as its limit of file locks, which Linux does not use: it passes on to
 * children and programs without any doing. It begins with 0. The application's own setting of limits has no effect. */
#define MYST_USERS_LIMIT RLIMIT_LOCKS

struct myst_user
{
    uint32_t real, effective, saved, file_system;
};

/* The ids of the calling process. */
struct myst_user myst_caller_user(const struct myst_call *call);
struct myst_user myst_caller_group(const struct myst_call *call);

/* True of its effective group, and of those of setgroups. */
bool myst_caller_is_in_group(const struct myst_call *call, uint32_t group);

/* Serves getuid, setuid and their kind: the result of the call, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_users(const struct myst_call *call);

#endif
