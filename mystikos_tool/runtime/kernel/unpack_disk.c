#include "unpack_disk.h"

#include "../common/error.h"
#include "ext2.h"
#include "write.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Directories that were made, in the order in which they are read. */
struct place
{
    uint32_t inode;
    char *path; /* "" for the root */
};

/* Where a file with several names was made. */
struct first_name
{
    uint32_t inode;
    char *path;
};

struct unpacking
{
    struct myst_ext2 fs;
    int root;
    bool without_set_id;
    struct place *places;
    size_t count, done;
    uint8_t *seen;   /* a bit for each inode that is a directory */
    void *names;     /* a tree of struct first_name */
    uint64_t budget; /* runs of blocks that may still be read: a file system in order has no more */
};

__attribute__((noreturn)) static void refuse(const struct unpacking *unpacking, const char *path)
{
    const struct myst_ext2 *fs = &unpacking->fs;
    const int64_t wrong = myst_disk_wrong_block(fs->disk);
    if (fs->problem)
        myst_refuse("%s: /%s: %s", fs->disk->name, path, fs->problem);
    if (wrong >= 0)
        myst_refuse("%s: /%s: block %lld is not what its hash says", fs->disk->name, path, (long long)wrong);
    myst_refuse("%s: /%s: cannot be read", fs->disk->name, path);
}

__attribute__((noreturn)) static void refuse_errno(const struct unpacking *unpacking, const char *path)
{
    myst_refuse_errno("%s: cannot unpack /%s", unpacking->fs.disk->name, path);
}

/* Never through a symbolic link, nor out of the root. */
static int open_below(const struct unpacking *unpacking, const char *path)
{
    const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    return (int)syscall(SYS_openat2, unpacking->root, *path ? path : ".", &how, sizeof how);
}

static char *join(const struct unpacking *unpacking, const char *directory, const char *name)
{
    char *path;
    if (asprintf(&path, "%s%s%s", directory, *directory ? "/" : "", name) < 0)
        myst_refuse("out of memory");
    if (strlen(path) >= PATH_MAX)
        myst_refuse("%s: a path in it is longer than 4095 bytes", unpacking->fs.disk->name);
    return path;
}

static void note_directory(struct unpacking *unpacking, uint32_t inode, char *path)
{
    uint8_t *byte = &unpacking->seen[inode / 8];
    const uint8_t bit = (uint8_t)(1 << inode % 8);
    if (*byte & bit)
        myst_refuse("%s: /%s: is a directory with two names", unpacking->fs.disk->name, path);
    *byte |= bit;
    if ((unpacking->count & (unpacking->count - 1)) == 0)
    {
        const size_t room = unpacking->count ? 2 * unpacking->count : 1;
        unpacking->places = myst_allocated(realloc(unpacking->places, room * sizeof *unpacking->places));
    }
    unpacking->places[unpacking->count++] = (struct place){inode, path};
}

/* May be made and entered whatever its mode is, which it gets at the end. */
static void make_directory(struct unpacking *unpacking, int parent, const struct myst_ext2_name *name, char *path)
{
    note_directory(unpacking, name->inode, path);
    if (mkdirat(parent, name->name, 0700) != 0)
        refuse_errno(unpacking, path);
}

static void spend(struct unpacking *unpacking, uint64_t runs, const char *path)
{
    if (unpacking->budget < runs)
        myst_refuse("%s: /%s: has more blocks than the disk", unpacking->fs.disk->name, path);
    unpacking->budget -= runs;
}

/* Holes stay holes. */
static void write_content(struct unpacking *unpacking, const struct myst_ext2_inode *inode, int file, const char *path)
{
    static uint8_t block[MYST_EXT2_BLOCK_MAX];
    struct myst_ext2 *fs = &unpacking->fs;
    struct myst_ext2_run run;
    for (uint64_t at = 0; at < inode->size; at += run.count * fs->block_size)
    {
        spend(unpacking, 1, path);
        if (myst_ext2_map(fs, inode, at / fs->block_size, &run) != 0)
            refuse(unpacking, path);
        if (run.block == 0)
            continue;
        const int64_t size = myst_ext2_read(fs, inode, at, fs->block_size, block);
        if (size < 0)
            refuse(unpacking, path);
        if (lseek(file, (off_t)at, SEEK_SET) < 0 || myst_write_all(file, block, (size_t)size) != 0)
            refuse_errno(unpacking, path);
    }
    if (ftruncate(file, (off_t)inode->size) != 0)
        refuse_errno(unpacking, path);
}

static mode_t mode_of(const struct unpacking *unpacking, const struct myst_ext2_inode *inode)
{
    return inode->mode & (unpacking->without_set_id ? 01777 : 07777);
}

static int compare(const void *a, const void *b)
{
    const uint32_t one = ((const struct first_name *)a)->inode, other = ((const struct first_name *)b)->inode;
    return (one > other) - (one < other);
}

/* True where the file is there already under another name, which it then has as well. */
static bool link_to_first(struct unpacking *unpacking, int parent, const struct myst_ext2_name *name, char *path)
{
    struct first_name *wanted = myst_allocated(malloc(sizeof *wanted));
    *wanted = (struct first_name){name->inode, path};
    struct first_name **found = myst_allocated(tsearch(wanted, &unpacking->names, compare));
    if (*found == wanted)
        return false;
    free(wanted);
    if (linkat(unpacking->root, (*found)->path, parent, name->name, 0) != 0)
        refuse_errno(unpacking, path);
    return true;
}

static void make_file(struct unpacking *unpacking, int parent, const struct myst_ext2_name *name,
                      const struct myst_ext2_inode *inode, char *path)
{
    const struct timespec times[2] = {{.tv_sec = inode->time}, {.tv_sec = inode->time}};
    if (inode->links > 1 && link_to_first(unpacking, parent, name, path))
        return;
    const int file = openat(parent, name->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        refuse_errno(unpacking, path);
    write_content(unpacking, inode, file, path);
    if (fchmod(file, mode_of(unpacking, inode)) != 0 || futimens(file, times) != 0)
        refuse_errno(unpacking, path);
    close(file);
}

static void make_link(struct unpacking *unpacking, int parent, const struct myst_ext2_name *name,
                      const struct myst_ext2_inode *inode, const char *path)
{
    char target[PATH_MAX];
    spend(unpacking, 1, path);
    if (myst_ext2_target(&unpacking->fs, inode, target) < 0)
        refuse(unpacking, path);
    if (symlinkat(target, parent, name->name) != 0)
        refuse_errno(unpacking, path);
}

static void make_entry(struct unpacking *unpacking, int parent, const char *directory,
                       const struct myst_ext2_name *name)
{
    struct myst_ext2_inode inode;
    char *path = join(unpacking, directory, name->name);
    if (myst_ext2_inode_of(&unpacking->fs, name, &inode) != 0)
        refuse(unpacking, path);
    spend(unpacking, 1, path);
    if (name->type == S_IFDIR)
        make_directory(unpacking, parent, name, path); /* which keeps the path */
    else if (name->type == S_IFLNK)
        make_link(unpacking, parent, name, &inode, path);
    else
        make_file(unpacking, parent, name, &inode, path);
    if (name->type == S_IFLNK || (name->type == S_IFREG && inode.links <= 1))
        free(path);
}

static void unpack_directory(struct unpacking *unpacking, const struct place *place)
{
    static struct myst_ext2_directory directory;
    struct myst_ext2_name name;
    int result;
    const int parent = open_below(unpacking, place->path);
    if (parent < 0)
        refuse_errno(unpacking, place->path);
    if (myst_ext2_directory(&unpacking->fs, place->inode, &directory) != 0)
        refuse(unpacking, place->path);
    spend(unpacking, directory.inode.size / unpacking->fs.block_size, place->path);
    while ((result = myst_ext2_next(&unpacking->fs, &directory, &name)) > 0)
        if (strcmp(name.name, ".") != 0 && strcmp(name.name, "..") != 0)
            make_entry(unpacking, parent, place->path, &name);
    if (result < 0)
        refuse(unpacking, place->path);
    close(parent);
}

/* Mode and time, which making the entries has changed. */
static void finish_directory(struct unpacking *unpacking, const struct place *place)
{
    struct myst_ext2_inode inode;
    const int directory = open_below(unpacking, place->path);
    if (myst_ext2_inode(&unpacking->fs, place->inode, &inode) != 0)
        refuse(unpacking, place->path);
    const struct timespec times[2] = {{.tv_sec = inode.time}, {.tv_sec = inode.time}};
    if (directory < 0 || utimensat(directory, ".", times, 0) != 0 ||
        fchmodat(directory, ".", mode_of(unpacking, &inode), 0) != 0)
        refuse_errno(unpacking, place->path);
    close(directory);
}

void myst_unpack_disk(struct myst_disk *disk, int root, bool without_set_id)
{
    struct unpacking unpacking = {.root = root, .without_set_id = without_set_id};
    struct myst_error error;
    if (myst_ext2_open(&unpacking.fs, disk, &error) != 0)
        myst_refuse("%s", error.text);
    unpacking.seen = myst_allocated(calloc(unpacking.fs.inodes / 8 + 1, 1));
    unpacking.budget = 4 * ((uint64_t)unpacking.fs.blocks + unpacking.fs.inodes);
    note_directory(&unpacking, MYST_EXT2_ROOT, myst_allocated(strdup("")));
    while (unpacking.done < unpacking.count)
    {
        const struct place place = unpacking.places[unpacking.done++]; /* the list may move */
        unpack_directory(&unpacking, &place);
    }
    myst_disk_check_rest(disk);
    /* The deepest come last: a directory without x would hide what is below it. */
    while (unpacking.count-- > 0)
    {
        finish_directory(&unpacking, &unpacking.places[unpacking.count]);
        free(unpacking.places[unpacking.count].path);
    }
    free(unpacking.places);
    free(unpacking.seen);
}
