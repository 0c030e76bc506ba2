#include "ext2.h"

#include <string.h>
#include <sys/stat.h>

#define SUPERBLOCK_OFFSET 1024
#define MAGIC 0xef53
#define INCOMPAT_FILETYPE 0x2u
#define RO_COMPAT_BIGALLOC 0x200u
#define FLAG_EXTENTS 0x80000u
#define FLAG_INLINE_DATA 0x10000000u
#define DIRECT 12
#define FAST_LINK 60 /* a shorter target lies in the inode */
#define GROUP_SIZE 32

/* The fields that are read (Linux: fs/ext2/ext2.h); little-endian. */
struct superblock
{
    uint32_t inodes_count, blocks_count, unused1[3], first_data_block, log_block_size, unused2, blocks_per_group,
        unused3, inodes_per_group, unused4[3];
    uint16_t magic, unused5[3];
    uint32_t unused6[3], revision, unused7[2];
    uint16_t inode_size, unused8;
    uint32_t compat, incompat, ro_compat;
};

_Static_assert(offsetof(struct superblock, magic) == 56, "magic");
_Static_assert(offsetof(struct superblock, inode_size) == 88, "inode size");
_Static_assert(offsetof(struct superblock, ro_compat) == 100, "features");

struct group
{
    uint32_t block_bitmap, inode_bitmap, inode_table, unused[5];
};

_Static_assert(sizeof(struct group) == GROUP_SIZE, "group");

struct inode
{
    uint16_t mode, uid;
    uint32_t size, access_time, change_time, modification_time, deletion_time;
    uint16_t gid, links;
    uint32_t sectors, flags, unused1;
    uint32_t pointers[MYST_EXT2_POINTERS];
    uint32_t generation, attributes, size_high, unused2[4];
};

_Static_assert(sizeof(struct inode) == 128, "inode");
_Static_assert(offsetof(struct inode, size_high) == 108, "inode");

struct entry
{
    uint32_t inode;
    uint16_t length;
    uint8_t name_length, type;
};

#define TYPES 8
static const uint32_t types[TYPES] = {[1] = S_IFREG, [2] = S_IFDIR,  [3] = S_IFCHR, [4] = S_IFBLK,
                                      [5] = S_IFIFO, [6] = S_IFSOCK, [7] = S_IFLNK};

static int fail(struct myst_ext2 *fs, const char *problem)
{
    fs->problem = problem;
    return -1;
}

/* NULL, or what is wrong with it. */
static const char *examine(const struct superblock *s, uint64_t size)
{
    if (s->magic != MAGIC)
        return "is no ext2 file system";
    if (s->revision < 1)
        return "has ext2's revision 0, which Mystikos refuses";
    if (s->log_block_size > 3)
        return "has blocks of more than 8192 bytes";
    const uint32_t block_size = 1024u << s->log_block_size, in_bitmap = 8 * block_size;
    if ((uint64_t)s->blocks_count * block_size > size)
        return "is larger than the data area of its disk";
    if (s->inode_size != 128 && s->inode_size != 256)
        return "has inodes of another size than 128 and 256 bytes";
    if (s->incompat != INCOMPAT_FILETYPE || (s->ro_compat & RO_COMPAT_BIGALLOC))
        return "has features that Mystikos cannot read, as extents";
    if (s->blocks_per_group == 0 || s->blocks_per_group > in_bitmap || s->inodes_per_group == 0 ||
        s->inodes_per_group > in_bitmap)
        return "has groups of a wrong size";
    const uint32_t first = s->first_data_block;
    if (first != (block_size == 1024) || first >= s->blocks_count)
        return "begins at a wrong block";
    const uint64_t groups = ((uint64_t)s->blocks_count - first + s->blocks_per_group - 1) / s->blocks_per_group;
    if (s->inodes_count == 0 || s->inodes_count > groups * s->inodes_per_group ||
        (uint64_t)s->inodes_count * s->inode_size > size)
        return "has no inodes, or more than its groups hold";
    return NULL;
}

/* Reads what has to lie within one block of the file system. */
static int read_in_block(struct myst_ext2 *fs, uint64_t block, uint64_t offset, size_t size, void *to)
{
    block += offset / fs->block_size;
    offset %= fs->block_size;
    if (block >= fs->blocks || offset + size > fs->block_size)
        return fail(fs, "names a block that the disk does not have");
    fs->problem = NULL;
    return myst_disk_read(fs->disk, block * fs->block_size + offset, size, to);
}

static int read_group(struct myst_ext2 *fs, uint64_t number, struct group *group)
{
    const uint64_t offset = fs->descriptors + number * GROUP_SIZE;
    return read_in_block(fs, offset / fs->block_size, offset % fs->block_size, sizeof *group, group);
}

int myst_ext2_inode(struct myst_ext2 *fs, uint32_t number, struct myst_ext2_inode *inode)
{
    struct group group;
    struct inode raw;
    if (number == 0 || number > fs->inodes)
        return fail(fs, "names an inode that does not exist");
    const uint64_t in_group = (number - 1) / fs->inodes_per_group, slot = (number - 1) % fs->inodes_per_group;
    if (read_group(fs, in_group, &group) != 0 ||
        read_in_block(fs, group.inode_table, slot * fs->inode_size, sizeof raw, &raw) != 0)
        return -1;
    if (raw.flags & (FLAG_EXTENTS | FLAG_INLINE_DATA))
        return fail(fs, "has extents or inline data, which Mystikos cannot read");
    *inode = (struct myst_ext2_inode){
        .number = number,
        .mode = raw.mode,
        .links = raw.links,
        .time = raw.modification_time,
        .sectors = raw.sectors,
        .size = raw.size | (S_ISREG(raw.mode) ? (uint64_t)raw.size_high << 32 : 0),
    };
    memcpy(inode->pointers, raw.pointers, sizeof inode->pointers);
    return 0;
}

/* As Mystikos does at the start: of every group up to `last`. */
static int check_groups(struct myst_ext2 *fs, uint32_t last, struct myst_error *error)
{
    struct group group;
    for (uint64_t number = 0; number <= last; number++)
    {
        if (read_group(fs, number, &group) != 0)
            return myst_fail(error, "%s: group %llu %s", fs->disk->name, (unsigned long long)number,
                             fs->problem ? fs->problem : "cannot be read, or is not what its hash says");
        if (group.inode_table == 0 || group.inode_table >= fs->blocks)
            return myst_fail(error, "%s: group %llu names a block that the disk does not have", fs->disk->name,
                             (unsigned long long)number);
    }
    return 0;
}

int myst_ext2_open(struct myst_ext2 *fs, struct myst_disk *disk, struct myst_error *error)
{
    struct superblock superblock;
    if (disk->size < SUPERBLOCK_OFFSET + 1024)
        return myst_fail(error, "%s: is no ext2 file system", disk->name);
    if (myst_disk_read(disk, SUPERBLOCK_OFFSET, sizeof superblock, &superblock) != 0)
        return myst_fail(error, "%s: block 0 cannot be read, or is not what its hash says", disk->name);
    const char *problem = examine(&superblock, disk->size);
    if (problem)
        return myst_fail(error, "%s: %s", disk->name, problem);
    const uint32_t block_size = 1024u << superblock.log_block_size;
    *fs = (struct myst_ext2){
        .disk = disk,
        .block_size = block_size,
        .blocks = superblock.blocks_count,
        .inodes = superblock.inodes_count,
        .inode_size = superblock.inode_size,
        .inodes_per_group = superblock.inodes_per_group,
        .descriptors = ((uint64_t)superblock.first_data_block + 1) * block_size,
    };
    return check_groups(fs, (superblock.inodes_count - 1) / superblock.inodes_per_group, error);
}

/* The number of zeros that `pointers` begin with. */
static uint64_t count_zeros(const uint32_t *pointers, uint64_t count)
{
    uint64_t zeros = 0;
    while (zeros < count && pointers[zeros] == 0)
        zeros++;
    return zeros;
}

/* Finds block `index` of the `each` blocks that `pointers`, each of this depth, lead to. */
static int follow(struct myst_ext2 *fs, const uint32_t *pointers, uint64_t count, int depth, uint64_t index,
                  struct myst_ext2_run *run)
{
    static uint32_t below[MYST_EXT2_BLOCK_MAX / sizeof(uint32_t)];
    const uint64_t per_block = fs->block_size / sizeof *below;
    uint64_t each = 1;
    for (int i = 0; i < depth; i++)
        each *= per_block;
    for (;; depth--, each /= per_block)
    {
        const uint64_t slot = index / each;
        index %= each;
        const uint32_t pointer = pointers[slot];
        if (pointer >= fs->blocks)
            return fail(fs, "names a block that the disk does not have");
        if (pointer == 0 || depth == 0)
        {
            const uint64_t same = pointer ? 1 : count_zeros(pointers + slot, count - slot);
            *run = (struct myst_ext2_run){pointer, same * each - index};
            return 0;
        }
        if (read_in_block(fs, pointer, 0, fs->block_size, below) != 0)
            return -1;
        pointers = below;
        count = per_block;
    }
}

int myst_ext2_map(struct myst_ext2 *fs, const struct myst_ext2_inode *inode, uint64_t index, struct myst_ext2_run *run)
{
    const uint64_t per_block = fs->block_size / sizeof(uint32_t);
    uint64_t covered = per_block;
    if (index < DIRECT)
        return follow(fs, inode->pointers, DIRECT, 0, index, run);
    index -= DIRECT;
    for (int depth = 1; depth <= 3; depth++, covered *= per_block)
    {
        if (index < covered)
            return follow(fs, inode->pointers + DIRECT + depth - 1, 1, depth, index, run);
        index -= covered;
    }
    return fail(fs, "has a size that its map cannot name");
}

int64_t myst_ext2_read(struct myst_ext2 *fs, const struct myst_ext2_inode *inode, uint64_t offset, uint64_t size,
                       void *to)
{
    uint8_t *at = to;
    if (offset >= inode->size)
        return 0;
    if (size > inode->size - offset)
        size = inode->size - offset;
    for (uint64_t left = size; left > 0;)
    {
        struct myst_ext2_run run;
        const uint64_t start = offset % fs->block_size, room = fs->block_size - start;
        const uint64_t count = left < room ? left : room;
        if (myst_ext2_map(fs, inode, offset / fs->block_size, &run) != 0)
            return -1;
        if (run.block == 0)
            memset(at, 0, count);
        else if (myst_disk_read_content(fs->disk, (uint64_t)run.block * fs->block_size + start, count, at) != 0)
            return fail(fs, NULL);
        at += count;
        offset += count;
        left -= count;
    }
    return (int64_t)size;
}

int myst_ext2_target(struct myst_ext2 *fs, const struct myst_ext2_inode *inode, char target[PATH_MAX])
{
    const uint64_t size = inode->size;
    if (!S_ISLNK(inode->mode) || size == 0 || size >= fs->block_size || size >= PATH_MAX)
        return fail(fs, "is a symbolic link with a target of a wrong size");
    if (size < FAST_LINK && inode->sectors == 0)
        memcpy(target, inode->pointers, size);
    else if (myst_ext2_read(fs, inode, 0, size, target) < 0)
        return -1;
    if (memchr(target, 0, size))
        return fail(fs, "is a symbolic link with a NUL in its target");
    target[size] = 0;
    return (int)size;
}

int myst_ext2_directory(struct myst_ext2 *fs, uint32_t number, struct myst_ext2_directory *directory)
{
    const struct myst_ext2_inode *inode = &directory->inode;
    directory->at = directory->loaded = 0;
    if (myst_ext2_inode(fs, number, &directory->inode) != 0)
        return -1;
    if (!S_ISDIR(inode->mode))
        return fail(fs, "is no directory, and another directory takes it for one");
    if (inode->size % fs->block_size || inode->size > (uint64_t)fs->blocks * fs->block_size)
        return fail(fs, "is a directory of a wrong size");
    return 0;
}

/* The entry at `start` of the block; -1 for one that does not fit. */
static int read_entry(struct myst_ext2 *fs, const struct myst_ext2_directory *directory, uint64_t start,
                      struct entry *entry)
{
    if (fs->block_size - start < sizeof *entry)
        return fail(fs, "has an entry that does not fit its block");
    memcpy(entry, directory->block + start, sizeof *entry);
    if (entry->length < sizeof *entry + entry->name_length || entry->length % 4 ||
        entry->length > fs->block_size - start)
        return fail(fs, "has an entry of a wrong length");
    return 0;
}

static int load_block(struct myst_ext2 *fs, struct myst_ext2_directory *directory)
{
    struct myst_ext2_run run;
    const uint64_t index = directory->at / fs->block_size;
    if (directory->loaded == index + 1)
        return 0;
    directory->loaded = 0;
    if (myst_ext2_map(fs, &directory->inode, index, &run) != 0)
        return -1;
    if (run.block == 0)
        return fail(fs, "is a directory with a hole");
    if (read_in_block(fs, run.block, 0, fs->block_size, directory->block) != 0)
        return -1;
    directory->loaded = index + 1;
    /* Wherever the caller was before: an entry begins where the ones before it end. */
    const uint64_t wanted = directory->at % fs->block_size;
    uint64_t start = 0;
    for (struct entry entry; start < wanted; start += entry.length)
        if (read_entry(fs, directory, start, &entry) != 0)
            return -1;
    directory->at += start - wanted;
    return 0;
}

/* Whether the entry is one of a file that is shown. */
static int take_name(struct myst_ext2 *fs, const struct entry *entry, const uint8_t *text, struct myst_ext2_name *name)
{
    if (entry->inode == 0)
        return 0;
    if (entry->name_length == 0 || memchr(text, '/', entry->name_length) || memchr(text, 0, entry->name_length))
        return fail(fs, "has an entry with a name that no file can have");
    if (entry->type >= TYPES || types[entry->type] == 0)
        return fail(fs, "has an entry of no type");
    *name = (struct myst_ext2_name){entry->inode, types[entry->type], entry->name_length, ""};
    memcpy(name->name, text, entry->name_length);
    return name->type == S_IFREG || name->type == S_IFDIR || name->type == S_IFLNK;
}

int myst_ext2_next(struct myst_ext2 *fs, struct myst_ext2_directory *directory, struct myst_ext2_name *name)
{
    struct entry entry;
    while (directory->at < directory->inode.size)
    {
        if (load_block(fs, directory) != 0)
            return -1;
        const uint64_t start = directory->at % fs->block_size;
        /* What was asked for may have lain in the last entry of its block. */
        if (directory->loaded != directory->at / fs->block_size + 1)
            continue;
        if (read_entry(fs, directory, start, &entry) != 0)
            return -1;
        directory->at += entry.length;
        const int taken = take_name(fs, &entry, directory->block + start + sizeof entry, name);
        if (taken != 0)
            return taken;
    }
    return 0;
}

int myst_ext2_find(struct myst_ext2 *fs, struct myst_ext2_directory *directory, const char *wanted, size_t length,
                   struct myst_ext2_name *name)
{
    int result;
    while ((result = myst_ext2_next(fs, directory, name)) > 0)
        if (name->length == length && memcmp(name->name, wanted, length) == 0)
            return 1;
    return result;
}

int myst_ext2_inode_of(struct myst_ext2 *fs, const struct myst_ext2_name *name, struct myst_ext2_inode *inode)
{
    if (myst_ext2_inode(fs, name->inode, inode) != 0)
        return -1;
    if ((inode->mode & S_IFMT) != name->type)
        return fail(fs, "has another type in its directory than in its inode");
    return 0;
}
