/* Reads a CPIO archive of the "newc" kind in memory (docs/formats.md section 1), entry by entry. The
 * archive is hostile until proven otherwise: every size is checked against what is there. */
#ifndef MYST_ARCHIVE_H
#define MYST_ARCHIVE_H

#include "../common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MYST_ENTRY_NAME_MAX 256 /* bytes, with the NUL */

struct myst_archive
{
    const unsigned char *data;
    size_t size, at;
    const char *name;    /* what messages begin with */
    bool without_set_id; /* its entries are taken without their set-id bits */
    uint32_t file_mode;  /* of all its files; 0: as the archive has it */
};

/* Points into the archive. */
struct myst_entry
{
    const char *name; /* NUL-terminated, as the archive has it */
    uint32_t mode, links, size;
    const unsigned char *data;
};

/* 1 with the next entry, 0 after the last, -1 with an error. */
int myst_archive_next(struct myst_archive *archive, struct myst_entry *entry, struct myst_error *error);

/* Writes the components of the name, as myst_path_components. -1 for a name that leads out: absolute, or with a "..".
 */
int myst_entry_path(const struct myst_entry *entry, char path[MYST_ENTRY_NAME_MAX]);

struct myst_archive_totals
{
    uint64_t entries;
    uint64_t bytes; /* that the content takes in a tmpfs, at most: whole pages */
};

/* Reads the archive to its end; results as of myst_archive_next. */
int myst_archive_measure(struct myst_archive archive, struct myst_archive_totals *totals, struct myst_error *error);

#endif
