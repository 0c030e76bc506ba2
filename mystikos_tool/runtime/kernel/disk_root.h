/* The root file system on a disk, where the package has none in it. */
#ifndef MYST_DISK_ROOT_H
#define MYST_DISK_ROOT_H

#include "../common/config_reader.h"
#include "../common/handoff.h"

#include <stdbool.h>

bool myst_root_is_on_disk(const struct myst_handoff *handoff);

/* Opens and checks the disk, in the caller's working directory. Refuses a disk for a package that needs none, and the
 * other way round. Does nothing for a package with its root in it. */
void myst_open_root_disk(const struct myst_handoff *handoff);

/* Makes a root file system in memory, or in the directory of --myst-root, with the disk's content, and enters it. */
void myst_make_disk_root(const struct myst_handoff *handoff, const struct myst_config *config);

/* Unpacks the disk into the working directory. */
void myst_unpack_disk_root(bool without_set_id);

#endif
