#include "disk_root.h"

#include "../common/error.h"
#include "root.h"
#include "served_disk.h"
#include "tmpfs.h"
#include "unpack_disk.h"

#include <fcntl.h>
#include <unistd.h>

static struct myst_disk disk;

/* The packager puts a page of zeros in the place of an archive. */
bool myst_root_is_on_disk(const struct myst_handoff *handoff)
{
    const struct myst_span *root = &handoff->regions[MYST_REGION_ROOTFS];
    return root->size == MYST_PAGE && *(const char *)root->data == 0;
}

void myst_open_root_disk(const struct myst_handoff *handoff)
{
    const struct myst_host *host = &handoff->host;
    if (!myst_root_is_on_disk(handoff))
    {
        if (host->rootfs)
            myst_refuse("options: --myst-rootfs: the root file system is in the package, and on no disk");
        return;
    }
    if (host->rootfs)
        myst_disk_open(&disk, host->rootfs, "options: --myst-rootfs", handoff);
    else if (host->rootfs_path)
        myst_disk_open(&disk, host->rootfs_path, "environment: MYST_ROOTFS_PATH", handoff);
    else
        myst_refuse("the root file system is on an ext2 disk: name it with --myst-rootfs=FILE, or with "
                    "MYST_ROOTFS_PATH in the environment");
}

void myst_unpack_disk_root(bool without_set_id)
{
    const int root = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        myst_refuse_errno("cannot open the new root");
    myst_unpack_disk(&disk, root, without_set_id);
    close(root);
}

/* What the application adds counts against MemorySize; what the disk brings does not. */
void myst_make_disk_root(const struct myst_handoff *handoff, const struct myst_config *config)
{
    const uint64_t files = disk.size / 1024 + config->memory_size / MYST_PAGE + 1024;
    if (!handoff->host.root && myst_serve_disk(&disk, myst_root_mount_point(), config->memory_size))
    {
        myst_enter_root_mount();
        myst_disk_close(&disk);
        return;
    }
    if (handoff->host.root)
        myst_keep_root(handoff->host.root);
    else
        myst_make_root(disk.size + config->memory_size, files);
    myst_unpack_disk_root(false);
    if (!handoff->host.root && myst_tmpfs_leave_room(".", config->memory_size) != 0)
        myst_refuse_errno("cannot limit the new root");
    myst_disk_close(&disk);
}
