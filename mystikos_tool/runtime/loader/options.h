/* The loader's own options: those that begin with --myst- before the first argument that does not.
 * Everything else is the application's, and what follows a "--" there. */
#ifndef MYST_OPTIONS_H
#define MYST_OPTIONS_H

#include "../common/error.h"
#include "../common/host.h"

#include <stdint.h>

enum myst_action
{
    MYST_ACTION_RUN,
    MYST_ACTION_INFO,
    MYST_ACTION_VERIFY,
    MYST_ACTION_HELP,
    MYST_ACTION_VERSION
};

struct myst_options
{
    enum myst_action action;
    int has_signer;
    uint8_t signer[32]; /* the MRSIGNER that is accepted */
    int count;          /* of arguments that were options */

    uint64_t flags; /* MYST_HOST_... */
    const char *mounts[MYST_HOST_MOUNTS];
    uint64_t mount_count;
    const char *root, *rootfs; /* NULL when not given */
    const char *rootfs_path;   /* of MYST_ROOTFS_PATH in the environment, or NULL */
};

int myst_options_read(struct myst_options *options, int argc, char *const *argv, struct myst_error *error);

extern const char myst_options_help[];

#endif
