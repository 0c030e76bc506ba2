/* Reads an ext2 file system that a hostile party may have written (docs/disks.md). What Mystikos' kernel reads is read;
 * what it would hang on is refused. Every number of the disk is held against the disk's size before it is used. */
#ifndef MYST_EXT2_H
#define MYST_EXT2_H

#include "disk.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define MYST_EXT2_ROOT 2 /* its inode */
#define MYST_EXT2_BLOCK_MAX 8192
#define MYST_EXT2_NAME_MAX 255
#define MYST_EXT2_POINTERS 15

struct myst_ext2
{
    struct myst_disk *disk;
    const char *problem; /* why the last call failed, or NULL: a block could not be read */
    uint32_t block_size, blocks, inodes, inode_size, inodes_per_group;
    uint64_t descriptors; /* offset of the first group's */
};

struct myst_ext2_inode
{
    uint32_t number, mode, links, time, sectors; /* time: of the last change of its content */
    uint64_t size;
    uint32_t pointers[MYST_EXT2_POINTERS];
};

/* Sets the error for what is no ext2 file system, or none that Mystikos' kernel reads. */
int myst_ext2_open(struct myst_ext2 *fs, struct myst_disk *disk, struct myst_error *error);

/* The others return 0 or more, or -1 with `problem`. */

int myst_ext2_inode(struct myst_ext2 *fs, uint32_t number, struct myst_ext2_inode *inode);

/* What a file has at its block `index`: a block of the disk, or a hole (0) of `count` blocks at least. */
struct myst_ext2_run
{
    uint32_t block;
    uint64_t count;
};
int myst_ext2_map(struct myst_ext2 *fs, const struct myst_ext2_inode *inode, uint64_t index, struct myst_ext2_run *run);

/* Reads from a file up to its end; returns the number of bytes. */
int64_t myst_ext2_read(struct myst_ext2 *fs, const struct myst_ext2_inode *inode, uint64_t offset, uint64_t size,
                       void *to);

/* Of a symbolic link, with its NUL; returns the length. */
int myst_ext2_target(struct myst_ext2 *fs, const struct myst_ext2_inode *inode, char target[PATH_MAX]);

struct myst_ext2_name
{
    uint32_t inode;
    uint32_t type; /* S_IF..., as the directory says it */
    uint32_t length;
    char name[MYST_EXT2_NAME_MAX + 1];
};

/* A directory that is read. `at` is where the next entry is, in bytes; it can be set to what it was before. */
struct myst_ext2_directory
{
    struct myst_ext2_inode inode;
    uint64_t at;
    uint64_t loaded; /* number of the block in `block`, 1 and up; 0: none */
    uint8_t block[MYST_EXT2_BLOCK_MAX];
};
int myst_ext2_directory(struct myst_ext2 *fs, uint32_t number, struct myst_ext2_directory *directory);

/* 1 with the next entry, 0 behind the last. Devices, FIFOs and sockets are left out. */
int myst_ext2_next(struct myst_ext2 *fs, struct myst_ext2_directory *directory, struct myst_ext2_name *name);

/* 1 with the entry of this name, 0 without. */
int myst_ext2_find(struct myst_ext2 *fs, struct myst_ext2_directory *directory, const char *wanted, size_t length,
                   struct myst_ext2_name *name);

/* The inode of an entry, which must be of the entry's type. */
int myst_ext2_inode_of(struct myst_ext2 *fs, const struct myst_ext2_name *name, struct myst_ext2_inode *inode);

#endif
