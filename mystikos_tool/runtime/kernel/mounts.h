/* The mounts that the configuration declares and the host gives the sources of. */
#ifndef MYST_MOUNTS_H
#define MYST_MOUNTS_H

#include "../common/config_reader.h"
#include "../common/handoff.h"

#include <stdbool.h>

/* Holds what the configuration declares against what the host gives: each declared mount must have one source, and
 * each source a declared mount. Refuses what cannot be mounted here. */
void myst_check_mounts(const struct myst_config *config, const struct myst_handoff *handoff);

/* True where directories of the host are among the mounts. */
bool myst_mounts_host_directories(const struct myst_config *config);

/* Opens the directories and disks of the host, before the root covers any of them. To be called in the mount namespace
 * of the sandbox, in the caller's working directory. */
void myst_open_mount_sources(const struct myst_config *config, const struct myst_handoff *handoff);

/* Mounts everything below the working directory, the complete root. */
void myst_mount_all(const struct myst_config *config, const struct myst_handoff *handoff);

#endif
