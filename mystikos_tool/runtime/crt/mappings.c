#include "mappings.h"

#include "../common/sizes.h"
#include "host_files.h"
#include "notes.h"
#include "redirect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAX_COPIES 256
#define WITHOUT_EFFECT ((uint64_t)(MAP_32BIT | MAP_HUGETLB | 63u << 26 /* the size of huge pages */))

/* A shared mapping of a file, which is a copy: what msync writes back, and where to. */
static struct copy
{
    int file; /* as the program had it open; 0: free */
    uint64_t device, inode, offset;
} copies[MAX_COPIES];

static struct copy *find_copy(uint64_t device, uint64_t inode, uint64_t offset)
{
    for (size_t i = 0; i < MAX_COPIES; i++)
        if (copies[i].file && copies[i].device == device && copies[i].inode == inode && copies[i].offset == offset)
            return &copies[i];
    return NULL;
}

/* Keeps the file; of too many the oldest is forgotten, and msync of it writes nothing. */
static void remember(int file, const struct stat *status, uint64_t offset)
{
    static size_t next;
    struct copy *copy = find_copy(status->st_dev, status->st_ino, offset);
    if (!copy)
        copy = &copies[next++ % MAX_COPIES];
    if (copy->file)
        close(copy->file);
    *copy = (struct copy){file, status->st_dev, status->st_ino, offset};
}

/* False where the descriptor is none that can be mapped, or belongs to shared memory (shm_open), which is shared. */
static bool becomes_copy(const struct myst_call *call)
{
    struct stat status, shared;
    const int file = myst_call_take_descriptor(call, (int)myst_call_argument(call, 4));
    if (file < 0)
        return false;
    const bool is_copied = fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
                           (stat("/dev/shm", &shared) != 0 || shared.st_dev != status.st_dev);
    if (is_copied)
        myst_note_use(MYST_USE_SHARED_FILE);
    if (is_copied && (fcntl(file, F_GETFL) & O_ACCMODE) == O_RDWR && !myst_keeps_content(call, file))
        remember(file, &status, myst_call_argument(call, 5));
    else
        close(file);
    return is_copied;
}

/* A file of the host that is appended to keeps its content: the mapping could be made writable later. */
static bool keeps_content(const struct myst_call *call)
{
    const int file = myst_call_take_descriptor(call, (int)myst_call_argument(call, 4));
    const bool result = file >= 0 && myst_keeps_content(call, file);
    if (file >= 0)
        close(file);
    return result;
}

/* The flags that the mapping is made with in place of those that are asked for. */
static uint64_t flags_of(const struct myst_call *call)
{
    uint64_t flags = myst_call_argument(call, 3) & ~WITHOUT_EFFECT;
    const bool is_writable = myst_call_argument(call, 2) & PROT_WRITE;
    if (flags & MAP_FIXED_NOREPLACE)
        flags = (flags & ~(uint64_t)MAP_FIXED_NOREPLACE) | MAP_FIXED;
    if (!(flags & (MAP_SHARED | MAP_PRIVATE)))
        flags |= MAP_PRIVATE;
    if ((flags & MAP_SHARED) && !(flags & MAP_ANONYMOUS) && (is_writable ? becomes_copy(call) : keeps_content(call)))
        flags = (flags & ~(uint64_t)(MAP_SHARED | MAP_SHARED_VALIDATE)) | MAP_PRIVATE;
    return flags;
}

/* Below 4 GiB there is no memory of an enclave. */
static bool is_out_of_enclave(uint64_t address)
{
    return address && address >> 32 == 0;
}

static bool is_of_directory(const struct myst_call *call)
{
    struct stat status;
    const int64_t file = myst_call_open_descriptor(call, (int)myst_call_argument(call, 4));
    const bool result = file >= 0 && fstat((int)file, &status) == 0 && S_ISDIR(status.st_mode);
    if (file >= 0)
        close((int)file);
    return result;
}

/* How many bytes of a mapping lie on pages that the file has; all of them where it is no file. */
static uint64_t within_file(const struct myst_call *call)
{
    struct stat status;
    const uint64_t size = myst_call_argument(call, 1), offset = myst_call_argument(call, 5);
    const int64_t file = myst_call_open_descriptor(call, (int)myst_call_argument(call, 4));
    const bool is_bounded = file >= 0 && fstat((int)file, &status) == 0 && S_ISREG(status.st_mode);
    if (file >= 0)
        close((int)file);
    const uint64_t end = is_bounded ? myst_page_up((uint64_t)status.st_size) : UINT64_MAX;
    return offset >= end ? 0 : end - offset < size ? end - offset : size;
}

/* Pages behind the end of the file are memory, of zeros. */
static int64_t map_beyond(const struct myst_call *call, uint64_t address, uint64_t flags, uint64_t within)
{
    const __u64 *a = call->notification.data.args;
    const uint64_t own = (flags & ~(uint64_t)(MAP_SHARED | MAP_SHARED_VALIDATE)) | MAP_PRIVATE | MAP_ANONYMOUS;
    const uint64_t whole[6] = {address, a[1], a[2], own, (uint64_t)-1, 0};
    return within
               ? myst_redirect_to_part(call, whole, (const uint64_t[6]){0, within, a[2], flags | MAP_FIXED, a[4], a[5]})
               : myst_redirect(call, SYS_mmap, whole);
}

static int64_t map(const struct myst_call *call)
{
    const __u64 *a = call->notification.data.args;
    if (!(a[3] & MAP_ANONYMOUS) && is_of_directory(call))
        return -EBADF;
    const uint64_t flags = flags_of(call);
    if (is_out_of_enclave(a[0]) && (flags & MAP_FIXED))
        return -EINVAL;
    const uint64_t address = is_out_of_enclave(a[0]) ? 0 : a[0];
    const uint64_t within = flags & MAP_ANONYMOUS ? a[1] : within_file(call);
    if (within < a[1] && a[5] % MYST_PAGE == 0)
        return map_beyond(call, address, flags, within);
    if (flags == a[3] && address == a[0])
        return MYST_CONTINUE;
    return myst_redirect(call, SYS_mmap, (const uint64_t[6]){address, a[1], a[2], flags, a[4], a[5]});
}

/* A line of /proc/PID/maps (proc(5)). */
struct mapping
{
    uint64_t begin, end, offset, device, inode;
    char flags[5];
};

static bool read_mapping(FILE *maps, struct mapping *mapping)
{
    char line[512];
    unsigned long begin, end, offset, inode;
    unsigned device[2];
    do
    {
        if (!fgets(line, sizeof line, maps))
            return false;
    } while (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu", &begin, &end, mapping->flags, &offset, &device[0], &device[1],
                    &inode) != 7);
    mapping->begin = begin;
    mapping->end = end;
    mapping->offset = offset;
    mapping->device = makedev(device[0], device[1]);
    mapping->inode = inode;
    return true;
}

/* The copy's part from `begin` up to `end`, as far as the file goes. */
static void write_back(const struct myst_call *call, const struct mapping *mapping, const struct copy *copy,
                       uint64_t begin, uint64_t end)
{
    static char data[64 << 10];
    struct stat status;
    if (fstat(copy->file, &status) != 0)
        return;
    for (uint64_t at = begin; at < end;)
    {
        const uint64_t offset = mapping->offset + (at - mapping->begin), size = (uint64_t)status.st_size;
        uint64_t part = end - at < sizeof data ? end - at : sizeof data;
        if (offset >= size)
            return;
        part = part < size - offset ? part : size - offset;
        if (myst_call_read(call, at, data, part) != 0 || pwrite(copy->file, data, part, (off_t)offset) != (ssize_t)part)
            return;
        at += part;
    }
}

/* Whole memory is written back, or none. */
static int64_t synchronize(const struct myst_call *call)
{
    char path[32];
    struct mapping mapping;
    const uint64_t begin = myst_call_argument(call, 0), end = begin + myst_page_up(myst_call_argument(call, 1));
    uint64_t known_to = begin;
    snprintf(path, sizeof path, "%d/maps", (int)myst_call_thread(call));
    const int file = call->application->proc < 0 || begin % MYST_PAGE
                         ? -1
                         : openat(call->application->proc, path, O_RDONLY | O_CLOEXEC);
    FILE *maps = file < 0 ? NULL : fdopen(file, "r");
    while (maps && read_mapping(maps, &mapping))
    {
        if (mapping.begin <= known_to && mapping.end > known_to)
            known_to = mapping.end;
        const struct copy *copy = find_copy(mapping.device, mapping.inode, mapping.offset);
        if (copy && mapping.flags[3] == 'p' && mapping.begin < end && mapping.end > begin)
            write_back(call, &mapping, copy, begin > mapping.begin ? begin : mapping.begin,
                       end < mapping.end ? end : mapping.end);
    }
    if (maps)
        fclose(maps);
    return begin == end || (maps && known_to < end) ? -EINVAL : MYST_CONTINUE;
}

int64_t myst_serve_mappings(const struct myst_call *call)
{
    switch (call->notification.data.nr)
    {
    case SYS_mmap:
        return map(call);
    case SYS_msync:
        return synchronize(call);
    default:
        return MYST_CONTINUE;
    }
}
