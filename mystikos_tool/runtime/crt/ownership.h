/* Which file belongs to whom inside, by device and inode. */
#ifndef MYST_OWNERSHIP_H
#define MYST_OWNERSHIP_H

#include <stdint.h>
#include <sys/stat.h>

/* Of the file that fstat of the system says `status` of: 0, or -ENOMEM. */
int64_t myst_remember_owner(const struct stat *status, uint32_t user, uint32_t group);

/* Puts the owner inside in the place of the system's. */
void myst_apply_owner(struct stat *status);

#endif
