#include "mounts.h"

#include "../common/error.h"
#include "../common/sizes.h"
#include "disk.h"
#include "file_limits.h"
#include "path.h"
#include "served_disk.h"
#include "tmpfs.h"
#include "unpack.h"
#include "unpack_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOUNT_SETATTR 442 /* its number (Linux 5.12) */
#define RECURSIVE 0x8000  /* AT_RECURSIVE */

/* Of mount_setattr. */
struct attributes
{
    uint64_t set, clear, propagation, user_namespace;
};
#define ATTRIBUTE_RDONLY 1ull
#define ATTRIBUTE_NOSUID 2ull
#define ATTRIBUTE_NODEV 4ull

#define MOUNTED_FILE_MODE 0640 /* of files of an archive that is mounted, whatever they have in it */

/* Open directories of the hostfs mounts, in the configuration's order; -1 for other mounts. */
static int *host_directories;

/* The disks of the ext2 mounts, in the same order. */
static struct myst_disk *disks;

static bool is_same_path(const char *a, const char *b)
{
    char own[PATH_MAX], other[PATH_MAX];
    return myst_path_components(a, own, sizeof own) == 0 && myst_path_components(b, other, sizeof other) == 0 &&
           strcmp(own, other) == 0;
}

/* The part of "SOURCE=TARGET" behind the =. */
static const char *target_of(const char *given)
{
    return strstr(given, "=/") + 1;
}

static const char *find_given(const struct myst_mount *mount, const struct myst_handoff *handoff)
{
    for (uint64_t i = 0; i < handoff->host.mount_count; i++)
        if (is_same_path(target_of(handoff->host.mounts[i]), mount->target))
            return handoff->host.mounts[i];
    return NULL;
}

static char *source_of(const struct myst_mount *mount, const struct myst_handoff *handoff)
{
    const char *given = find_given(mount, handoff);
    return myst_allocated(strndup(given, (size_t)(target_of(given) - 1 - given)));
}

static bool has_flag(const struct myst_mount *mount, const char *flag)
{
    for (size_t i = 0; i < mount->flags.count; i++)
        if (strcmp(mount->flags.items[i], flag) == 0)
            return true;
    return false;
}

static void check_declared(const struct myst_mount *mount)
{
    char target[PATH_MAX];
    if (myst_path_components(mount->target, target, sizeof target) != 0 || !*target)
        myst_refuse("configuration: Mount: %s is not a directory that can be mounted on", mount->target);
    if (mount->type == MYST_MOUNT_EXT2 && (mount->public_key || mount->root_hash || mount->flags.count > 0))
        myst_refuse("configuration: Mount: %s: with PublicKey, RootHash or Flags of an ext2 disk Mystikos starts no "
                    "package; the package's own keys and root hashes are what the disk is held to",
                    mount->target);
    if (mount->public_key || mount->root_hash)
        myst_refuse("configuration: Mount: %s: PublicKey and RootHash are for ext2 disks", mount->target);
    for (size_t i = 0; i < mount->flags.count; i++)
        if (strcmp(mount->flags.items[i], "ro") != 0 && strcmp(mount->flags.items[i], "rw") != 0)
            myst_refuse("configuration: Mount: %s: the flag \"%s\" is not supported; there are ro and rw",
                        mount->target, mount->flags.items[i]);
    if (has_flag(mount, "ro") && has_flag(mount, "rw"))
        myst_refuse("configuration: Mount: %s: ro and rw exclude each other", mount->target);
}

static size_t count_declared(const struct myst_config *config, const char *target)
{
    size_t count = 0;
    for (size_t i = 0; i < config->mount_count; i++)
        count += is_same_path(config->mounts[i].target, target);
    return count;
}

static void check_given(const struct myst_config *config, const struct myst_handoff *handoff, uint64_t index)
{
    const char *target = target_of(handoff->host.mounts[index]);
    if (count_declared(config, target) == 0)
        myst_refuse("options: --myst-mount: the configuration declares no mount at %s", target);
    for (uint64_t i = 0; i < index; i++)
        if (is_same_path(target_of(handoff->host.mounts[i]), target))
            myst_refuse("options: --myst-mount: %s is given twice", target);
}

void myst_check_mounts(const struct myst_config *config, const struct myst_handoff *handoff)
{
    for (size_t i = 0; i < config->mount_count; i++)
    {
        const char *target = config->mounts[i].target;
        check_declared(&config->mounts[i]);
        if (count_declared(config, target) > 1)
            myst_refuse("configuration: Mount: %s is declared twice", target);
        if (!find_given(&config->mounts[i], handoff))
            myst_refuse("configuration: Mount: no source is given for %s: start the package with "
                        "--myst-mount=SOURCE=%s",
                        target, target);
    }
    for (uint64_t i = 0; i < handoff->host.mount_count; i++)
        check_given(config, handoff, i);
}

void myst_open_mount_sources(const struct myst_config *config, const struct myst_handoff *handoff)
{
    host_directories = myst_allocated(calloc(config->mount_count + 1, sizeof *host_directories));
    disks = myst_allocated(calloc(config->mount_count + 1, sizeof *disks));
    for (size_t i = 0; i < config->mount_count; i++)
    {
        host_directories[i] = -1;
        char *source = source_of(&config->mounts[i], handoff);
        if (config->mounts[i].type == MYST_MOUNT_EXT2)
            myst_disk_open(&disks[i], source, "options: --myst-mount", handoff);
        if (config->mounts[i].type == MYST_MOUNT_HOSTFS)
        {
            host_directories[i] = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
            if (host_directories[i] < 0)
                myst_refuse_errno("options: --myst-mount: cannot open the directory %s", source);
        }
        free(source);
    }
}

/* False within a directory of the host that is mounted already. */
static bool is_in_root(int directory)
{
    struct stat root, status;
    return stat(".", &root) == 0 && fstat(directory, &status) == 0 && root.st_dev == status.st_dev;
}

/* Opens a path below the working directory, never through a symbolic link: an absolute one would lead out of the
 * root, which is not yet ours. `makes`: as Mystikos does, the directories that are not there are made. */
static int open_in_root(const char *path, int flags, bool makes)
{
    char components[PATH_MAX], *name = components;
    if (myst_path_components(path, components, sizeof components) != 0)
    {
        errno = EINVAL;
        return -1;
    }
    int at = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (at >= 0)
    {
        char *slash = strchr(name, '/');
        if (slash)
            *slash = 0;
        if (makes && is_in_root(at))
            mkdirat(at, name, 0777); /* what is there stays */
        int next = openat(at, name, (slash ? O_PATH | O_DIRECTORY : flags) | O_NOFOLLOW | O_CLOEXEC);
        int error = errno;
        close(at);
        errno = error;
        at = next;
        if (!slash)
            return at;
        name = slash + 1;
    }
    return -1;
}

static int open_target(const struct myst_mount *mount)
{
    int target = open_in_root(mount->target, O_PATH | O_DIRECTORY, true);
    if (target >= 0)
        return target;
    if (errno == ENOTDIR || errno == ELOOP)
        myst_refuse("configuration: Mount: %s in the root file system must be a directory, and no symbolic link on "
                    "the way to it",
                    mount->target);
    if (errno == ENOENT)
        myst_refuse("configuration: Mount: there is no %s in the directory of the host", mount->target);
    myst_refuse_errno("configuration: Mount: cannot open %s", mount->target);
}

static const char *descriptor_path(int descriptor, char path[32])
{
    snprintf(path, 32, "/proc/self/fd/%d", descriptor);
    return path;
}

/* Restricts the mount and all that came along below it from the host. */
static void restrict_mount(const struct myst_mount *declared)
{
    struct attributes attributes = {.set = ATTRIBUTE_NOSUID | ATTRIBUTE_NODEV};
    int target = open_target(declared);
    if (has_flag(declared, "ro"))
        attributes.set |= ATTRIBUTE_RDONLY;
    if (syscall(MOUNT_SETATTR, target, "", AT_EMPTY_PATH | RECURSIVE, &attributes, sizeof attributes) != 0)
        myst_refuse_errno("configuration: Mount: cannot protect %s%s", declared->target,
                          errno == ENOSYS ? ", which needs Linux 5.12" : "");
    close(target);
}

static void mount_host_directory(const struct myst_mount *declared, int directory)
{
    char from[32], to[32];
    int target = open_target(declared);
    if (mount(descriptor_path(directory, from), descriptor_path(target, to), NULL, MS_BIND | MS_REC, NULL) != 0)
        myst_refuse_errno("configuration: Mount: cannot mount a directory of the host at %s", declared->target);
    close(target);
    restrict_mount(declared);
}

static struct myst_archive map_archive(const char *source)
{
    struct stat status;
    int file = open_in_root(source, O_RDONLY | O_NONBLOCK, false);
    if (file < 0 || fstat(file, &status) != 0)
        myst_refuse_errno("options: --myst-mount: cannot open the archive %s in the root file system", source);
    if (!S_ISREG(status.st_mode) || status.st_size == 0)
        myst_refuse("options: --myst-mount: %s in the root file system is not an archive", source);
    void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED)
        myst_refuse_errno("options: --myst-mount: cannot map the archive %s", source);
    close(file);
    return (struct myst_archive){
        .data = data, .size = (size_t)status.st_size, .name = source, .file_mode = MOUNTED_FILE_MODE};
}

static void mount_archive(const struct myst_mount *declared, const char *source, uint64_t memory_size)
{
    char to[32], options[96];
    struct myst_error error;
    struct myst_archive_totals totals;
    struct myst_archive archive = map_archive(source);
    int target = open_target(declared);

    const bool is_archive = myst_archive_measure(archive, &totals, &error) == 0;
    if (!is_archive)
    {
        myst_warn("options: --myst-mount: %s: nothing is unpacked at %s", error.text, declared->target);
        totals.bytes = totals.entries = 0;
    }
    snprintf(options, sizeof options, "mode=0755,size=%llu,nr_inodes=%llu",
             (unsigned long long)(totals.bytes + memory_size),
             (unsigned long long)(totals.entries + 1024 + memory_size / MYST_PAGE));
    if (myst_mount_tmpfs(descriptor_path(target, to), options) != 0)
        myst_refuse_errno("configuration: Mount: cannot mount a file system in memory at %s", declared->target);
    close(target);

    target = open_target(declared);
    myst_limit_files_at(descriptor_path(target, to));
    if (is_archive)
        myst_unpack(archive, target);
    munmap((void *)(uintptr_t)archive.data, archive.size);
    if (has_flag(declared, "ro") && mount(NULL, descriptor_path(target, to), NULL,
                                          MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) != 0)
        myst_refuse_errno("configuration: Mount: cannot protect %s", declared->target);
    close(target);
}

static void unpack_disk_at(const struct myst_mount *declared, struct myst_disk *disk, uint64_t memory_size)
{
    char to[32], options[96];
    int target = open_target(declared);
    snprintf(options, sizeof options, "mode=0755,size=%llu,nr_inodes=%llu",
             (unsigned long long)(disk->size + memory_size),
             (unsigned long long)(disk->size / 1024 + 1024 + memory_size / MYST_PAGE));
    if (myst_mount_tmpfs(descriptor_path(target, to), options) != 0)
        myst_refuse_errno("configuration: Mount: cannot mount a file system in memory at %s", declared->target);
    close(target);

    target = open_target(declared);
    myst_limit_files_at(descriptor_path(target, to));
    myst_unpack_disk(disk, target, false);
    if (myst_tmpfs_leave_room(descriptor_path(target, to), memory_size) != 0)
        myst_refuse_errno("configuration: Mount: cannot limit %s", declared->target);
    close(target);
}

/* The target was seen to be a directory with no symbolic link on the way, and nobody else is in the root yet. */
static void mount_disk(const struct myst_mount *declared, struct myst_disk *disk, uint64_t memory_size)
{
    char target[PATH_MAX];
    close(open_target(declared));
    myst_path_components(declared->target, target, sizeof target);
    if (!myst_serve_disk(disk, target, memory_size))
        unpack_disk_at(declared, disk, memory_size);
    myst_disk_close(disk);
}

bool myst_mounts_host_directories(const struct myst_config *config)
{
    bool found = false;
    for (size_t i = 0; i < config->mount_count; i++)
        found |= config->mounts[i].type == MYST_MOUNT_HOSTFS;
    return found;
}

void myst_mount_all(const struct myst_config *config, const struct myst_handoff *handoff)
{
    for (size_t i = 0; i < config->mount_count; i++)
    {
        if (config->mounts[i].type == MYST_MOUNT_HOSTFS)
        {
            mount_host_directory(&config->mounts[i], host_directories[i]);
            close(host_directories[i]);
            continue;
        }
        if (config->mounts[i].type == MYST_MOUNT_EXT2)
        {
            mount_disk(&config->mounts[i], &disks[i], config->memory_size);
            continue;
        }
        char *source = source_of(&config->mounts[i], handoff);
        mount_archive(&config->mounts[i], source, config->memory_size);
        free(source);
    }
    free(host_directories);
    free(disks);
}
