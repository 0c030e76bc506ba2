#include "tmpfs.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#define FLAGS (MS_NOSUID | MS_NODEV)

int myst_mount_tmpfs(const char *target, const char *options)
{
    /* Large pages as far as files fill them: they take no more memory, are quicker to write and to free. A system
     * without large pages does not know the option. */
    char with_large_pages[128];
    snprintf(with_large_pages, sizeof with_large_pages, "%s,huge=within_size", options);
    if (mount("tmpfs", target, "tmpfs", FLAGS, with_large_pages) == 0)
        return 0;
    return errno == EINVAL ? mount("tmpfs", target, "tmpfs", FLAGS, options) : -1;
}

int myst_tmpfs_leave_room(const char *path, uint64_t bytes)
{
    struct statvfs status;
    char options[64];
    if (statvfs(path, &status) != 0)
        return -1;
    bytes += (uint64_t)(status.f_blocks - status.f_bfree) * status.f_bsize;
    snprintf(options, sizeof options, "size=%llu", (unsigned long long)bytes);
    return mount(NULL, path, NULL, MS_REMOUNT | FLAGS, options);
}
