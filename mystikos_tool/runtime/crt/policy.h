/* What becomes of each system call of the application, by the configuration. */
#ifndef MYST_POLICY_H
#define MYST_POLICY_H

#include "../common/application.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the filter does; a positive value is the errno that the call fails with. */
enum
{
    MYST_ALLOW = 0,
    MYST_STOP = -1,       /* the program is stopped with a message that names the call */
    MYST_CLONE = -2,      /* by its flags: see myst_clone_action */
    MYST_AFFINITY = -3,   /* done for the application, within what MaxAffinityCPUs leaves */
    MYST_PROGRAM = -4,    /* a new program: prepared before it runs */
    MYST_SERVE = -7,      /* by process 1: users, owners, the machine */
    MYST_IOCTL = -6,      /* by its request: see myst_ioctl_action */
    MYST_PERSONA = -5,    /* allowed to make stacks executable, on which see stacks.c, and else as unhandled */
    MYST_SUCCEED = -9,    /* it returns 0 and nothing is done */
    MYST_UNHANDLED = -10, /* as myst_unhandled_action says; in rules only */
    MYST_CRASH = -11,     /* Mystikos crashes: the program is stopped with a message that says so */
    MYST_GROUP = -12,     /* a signal to the caller's group, which process 1 sends; ESRCH where it serves no calls */
};

/* For a call of the 64-bit kind. */
int myst_call_action(const struct myst_application *application, unsigned number);

/* Flags of clone by which a thread is made, or a process that shares the memory until it executes a program, as
 * posix_spawn makes it: Mystikos does these in every ForkMode, others only with fork. */
#define MYST_CLONE_THREAD 0x00010000u     /* CLONE_THREAD */
#define MYST_CLONE_SPAWN 0x00004100u      /* CLONE_VM | CLONE_VFORK */
#define MYST_CLONE_NAMESPACES 0x7e020000u /* CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET */

/* Of a call that Mystikos does not handle. */
int myst_unhandled_action(const struct myst_application *application);

/* MYST_SERVE for a process of its own: process 1 is told. */
int myst_clone_action(const struct myst_application *application, unsigned flags);

/* Requests by which a terminal takes what a program writes for what the user types, after its end as well, or stays
 * changed in a way that the user's programs do not expect: EPERM. */
#define MYST_REFUSED_REQUESTS 4
extern const unsigned myst_refused_requests[MYST_REFUSED_REQUESTS];

/* Those of file systems, of which Mystikos' know none; those of the host would change what a file is: ENOTTY. */
#define MYST_REFUSED_KINDS 3
#define MYST_KIND_OF_REQUEST 0xff00u
extern const unsigned myst_refused_kinds[MYST_REFUSED_KINDS];

int myst_ioctl_action(unsigned request);

#endif
