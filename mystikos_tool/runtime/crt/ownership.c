#include "ownership.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#define MAX_OWNERS (1u << 20)

struct owner
{
    uint64_t device, inode; /* inode 0: free */
    uint32_t user, group;
};

/* Open addressing; the size is a power of two. */
static struct owner *owners;
static size_t owner_room, owner_count;

/* Where the file is, or would be. There is a free place always. */
static struct owner *slot_of(uint64_t device, uint64_t inode)
{
    size_t at = (size_t)((inode * 0x9e3779b97f4a7c15ull) ^ device);
    for (;; at++)
    {
        struct owner *owner = &owners[at & (owner_room - 1)];
        if (owner->inode == 0 || (owner->inode == inode && owner->device == device))
            return owner;
    }
}

static const struct owner *find(const struct stat *status)
{
    if (owner_count == 0)
        return NULL;
    const struct owner *owner = slot_of(status->st_dev, status->st_ino);
    return owner->inode ? owner : NULL;
}

static bool grow(void)
{
    struct owner *former = owners;
    const size_t former_room = owner_room, room = owner_room ? 2 * owner_room : 64;
    struct owner *larger = calloc(room, sizeof *larger);
    if (!larger)
        return false;
    owners = larger;
    owner_room = room;
    for (size_t i = 0; i < former_room; i++)
        if (former[i].inode)
            *slot_of(former[i].device, former[i].inode) = former[i];
    free(former);
    return true;
}

int64_t myst_remember_owner(const struct stat *status, uint32_t user, uint32_t group)
{
    if (2 * owner_count >= owner_room && (owner_count == MAX_OWNERS || !grow()))
        return -ENOMEM;
    struct owner *owner = slot_of(status->st_dev, status->st_ino);
    owner_count += owner->inode == 0;
    *owner = (struct owner){status->st_dev, status->st_ino, user, group};
    return 0;
}

void myst_apply_owner(struct stat *status)
{
    const struct owner *owner = find(status);
    if (!owner)
        return;
    status->st_uid = owner->user;
    status->st_gid = owner->group;
}
