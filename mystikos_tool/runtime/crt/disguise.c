#include "disguise.h"

#include "../common/sizes.h"

#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#define BLOCK_SIZE 512
#define OF_SHARED_MEMORY (1ull << 40) /* tells inodes of other file systems in memory apart, as the device does not */
#define OF_DEVICES (1ull << 41)

/* As directories in memory grow here and there. */
#define ENTRY_SIZE 20
#define MYSTIKOS_ENTRY_SIZE 280

#define TERMINAL_MAJOR 136u /* of pseudo terminals; they are numbered from here up to 143 */
#define TERMINALS_END 144u
#define MEMORY_MAJOR 1u /* null, zero, random, urandom */
#define PTMX makedev(5, 2)

static bool is_terminal(const struct stat *status)
{
    const unsigned number = major(status->st_rdev);
    return S_ISCHR(status->st_mode) && (number == 4 || (number == 5 && status->st_rdev != PTMX) ||
                                        (number >= TERMINAL_MAJOR && number < TERMINALS_END));
}

bool myst_is_console(const struct myst_call *call, const struct stat *status)
{
    for (size_t i = 0; i < MYST_COUNT(call->application->given_descriptors); i++)
    {
        const struct myst_file *given = &call->application->given_descriptors[i];
        if (given->inode && given->inode == status->st_ino && given->device == status->st_dev)
            return !is_terminal(status);
    }
    return false;
}

bool myst_is_console_at(const struct myst_call *call, int descriptor, const struct stat *status)
{
    const bool is_named = S_ISCHR(status->st_mode) && major(status->st_rdev) == MEMORY_MAJOR && descriptor > 2;
    return !is_named && myst_is_console(call, status);
}

bool myst_is_in_file_system(const struct myst_call *call, const struct stat *status)
{
    const mode_t type = status->st_mode & S_IFMT;
    return type != S_IFIFO && type != S_IFSOCK && type != 0 && !myst_is_console(call, status);
}

static uint64_t device_of(const char *directory)
{
    struct stat status;
    return stat(directory, &status) == 0 ? status.st_dev : UINT64_MAX;
}

static void disguise_file(struct stat *status)
{
    status->st_dev = 0;
    status->st_blksize = BLOCK_SIZE;
    if (S_ISLNK(status->st_mode))
        status->st_size++;
    if (S_ISDIR(status->st_mode))
        status->st_size = status->st_size / ENTRY_SIZE * MYSTIKOS_ENTRY_SIZE;
}

static bool is_device(const struct stat *status)
{
    return S_ISCHR(status->st_mode) && (major(status->st_rdev) == MEMORY_MAJOR || status->st_rdev == PTMX);
}

/* Devices of the file systems inside. */
static uint64_t root, devices, shared_memory, processes, processors;

static void find_devices(void)
{
    if (root)
        return;
    root = device_of("/");
    devices = device_of("/dev");
    shared_memory = device_of("/dev/shm");
    processes = device_of("/proc");
    processors = device_of("/proc/cpuinfo");
}

bool myst_is_in_memory(const struct stat *status)
{
    find_devices();
    return status->st_dev == root || status->st_dev == devices || status->st_dev == shared_memory;
}

bool myst_is_in_root(const struct stat *status)
{
    find_devices();
    return status->st_dev == root;
}

/* The others always are in memory alone. */
static bool has_root_on_disk(void)
{
    static bool is_known, is_on_disk;
    struct statfs system;
    if (!is_known)
        is_on_disk = statfs("/", &system) != 0 || system.f_type != TMPFS_MAGIC;
    is_known = true;
    return is_on_disk;
}

bool myst_is_in_tmpfs(const struct stat *status)
{
    return myst_is_in_memory(status) && !(status->st_dev == root && has_root_on_disk());
}

bool myst_is_directory_in_memory(int directory)
{
    struct stat status;
    return fstat(directory, &status) == 0 && S_ISDIR(status.st_mode) && myst_is_in_tmpfs(&status);
}

void myst_disguise(const struct myst_call *call, struct stat *status)
{
    if (!call->application->isolated)
        return;
    find_devices();
    if (is_device(status))
    {
        status->st_dev = status->st_rdev = 0;
        status->st_mode = S_IFCHR | 0600;
    }
    else if (status->st_dev == processes && status->st_ino != 1 && S_ISDIR(status->st_mode))
        status->st_mode = S_IFDIR | 01411;
    else if (status->st_dev == processors && S_ISREG(status->st_mode))
        status->st_mode = S_IFREG | 0400;
    else if (myst_is_console(call, status))
        status->st_mode = S_IFCHR | (status->st_mode & 0777);
    else if (myst_is_in_memory(status))
    {
        status->st_ino |= status->st_dev == shared_memory ? OF_SHARED_MEMORY
                          : status->st_dev == devices     ? OF_DEVICES
                                                          : 0;
        disguise_file(status);
    }
}
