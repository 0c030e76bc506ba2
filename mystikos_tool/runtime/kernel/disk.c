#include "disk.h"

#include "../common/error.h"
#include "read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_file(const char *path, const char *option, uint64_t *size)
{
    struct stat status;
    const int file = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) != 0)
        myst_refuse_errno("%s: cannot open the disk %s", option, path);
    if (!S_ISREG(status.st_mode))
        myst_refuse("%s: %s is no regular file", option, path);
    *size = (uint64_t)status.st_size;
    return file;
}

static int read_fssig(const struct myst_disk *disk, uint64_t size, struct myst_fssig *fssig, struct myst_error *error)
{
    if (size < sizeof *fssig || myst_read_at(disk->file, fssig, sizeof *fssig, size - sizeof *fssig) != 0)
        memset(fssig, 0, sizeof *fssig);
    return myst_fssig_check(fssig, size, disk->name, error);
}

/* 1 where the disk is trusted and its tree is right, 0 where nothing says that it is to be trusted, -1 where it must
 * not be read. The error is set for both. */
static int verify(struct myst_disk *disk, uint64_t size, const struct myst_handoff *handoff, struct myst_error *error)
{
    static struct myst_fssig fssig;
    if (read_fssig(disk, size, &fssig, error) != 0)
        return 0;
    const int trusted = myst_fssig_is_trusted(&fssig, &handoff->regions[MYST_REGION_PUBKEYS],
                                              &handoff->regions[MYST_REGION_ROOTHASHES], error);
    if (trusted < 0)
        return -1;
    if (!trusted)
    {
        myst_fail(error, "%s: neither is it signed by a key nor has it a root hash that the package trusts",
                  disk->name);
        return 0;
    }
    if (myst_verity_open(&disk->verity, disk->file, size, &fssig, disk->name, error) != 0)
        return -1;
    disk->size = fssig.hash_offset;
    disk->verified = true;
    return 1;
}

static void refuse_encrypted(struct myst_disk *disk)
{
    static const uint8_t luks[6] = {'L', 'U', 'K', 'S', 0xba, 0xbe};
    uint8_t begin[sizeof luks];
    if (myst_disk_read(disk, 0, sizeof begin, begin) == 0 && memcmp(begin, luks, sizeof luks) == 0)
        myst_refuse("%s: is encrypted (LUKS), and the embedded runtime reads no encrypted disks", disk->name);
}

void myst_disk_open(struct myst_disk *disk, const char *path, const char *option, const struct myst_handoff *handoff)
{
    struct myst_error error;
    char *name;
    uint64_t size;
    *disk = (struct myst_disk){.file = open_file(path, option, &size)};
    if (asprintf(&name, "disk %.255s", path) < 0)
        myst_refuse("out of memory");
    disk->name = name;
    disk->size = size;
    disk->cache = myst_allocated(calloc(MYST_DISK_CACHE, sizeof *disk->cache));
    const int trusted = verify(disk, size, handoff, &error);
    if (trusted < 0 || (trusted == 0 && !handoff->debug))
        myst_refuse("%s", error.text);
    if (trusted == 0)
        myst_warn("%s; it is mounted unverified, since Debug is set", error.text);
    refuse_encrypted(disk);
}

/* Of a disk that is not verified the last block may be a part of one. */
static int read_block(struct myst_disk *disk, uint64_t number, uint8_t data[MYST_VERITY_BLOCK])
{
    const uint64_t offset = number * MYST_VERITY_BLOCK;
    if (disk->verified)
        return myst_verity_read(&disk->verity, number, data);
    const uint64_t left = disk->size - offset, size = left < MYST_VERITY_BLOCK ? left : MYST_VERITY_BLOCK;
    memset(data + size, 0, MYST_VERITY_BLOCK - size);
    return myst_read_at(disk->file, data, size, offset);
}

static const uint8_t *find_block(struct myst_disk *disk, uint64_t number)
{
    uint8_t *data = disk->cache[number % MYST_DISK_CACHE].data;
    uint64_t *cached = &disk->cache[number % MYST_DISK_CACHE].number;
    if (*cached == number + 1)
        return data;
    *cached = 0;
    if (read_block(disk, number, data) != 0)
        return NULL;
    *cached = number + 1;
    return data;
}

static int read_range(struct myst_disk *disk, uint64_t offset, size_t size, uint8_t *to, bool keeps)
{
    if (!myst_within(offset, size, disk->size))
        return -1;
    while (size > 0)
    {
        const uint64_t number = offset / MYST_VERITY_BLOCK, start = offset % MYST_VERITY_BLOCK;
        const size_t room = MYST_VERITY_BLOCK - start, count = size < room ? size : room;
        if (count == MYST_VERITY_BLOCK && !keeps)
        {
            if (read_block(disk, number, to) != 0)
                return -1;
        }
        else
        {
            const uint8_t *block = find_block(disk, number);
            if (!block)
                return -1;
            memcpy(to, block + start, count);
        }
        to += count;
        offset += count;
        size -= count;
    }
    return 0;
}

int myst_disk_read(struct myst_disk *disk, uint64_t offset, size_t size, void *to)
{
    return read_range(disk, offset, size, to, true);
}

int myst_disk_read_content(struct myst_disk *disk, uint64_t offset, size_t size, void *to)
{
    return read_range(disk, offset, size, to, false);
}

void myst_disk_close(struct myst_disk *disk)
{
    close(disk->file);
    free(disk->cache);
    myst_verity_close(&disk->verity);
}

int64_t myst_disk_wrong_block(const struct myst_disk *disk)
{
    return disk->verified && disk->verity.has_wrong_block ? (int64_t)disk->verity.wrong_block : -1;
}

void myst_disk_check_rest(struct myst_disk *disk)
{
    if (disk->verified && myst_verity_read_rest(&disk->verity) != 0)
        myst_refuse("%s: block %lld is not what its hash says", disk->name, (long long)myst_disk_wrong_block(disk));
}
