/* Lists the file system in a file, without any hash tree: a line for each path, in the order of the directories, with
 * mode, size, links, time, and the digest of its content or its target. Of a large file the digest is that of its
 * blocks, each behind its offset (8 bytes), without those of holes. The arguments are the file and the number of bytes
 * in front that are the file system. Ends with status 1 and the problem for what the reader refuses. */
#include "common/sha256.h"
#include "kernel/ext2.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LARGE (1 << 26)

static struct myst_ext2 fs;
static uint8_t *seen; /* a bit for each inode that is a directory */

static void need(int64_t result)
{
    if (result >= 0)
        return;
    puts(fs.problem ? fs.problem : "cannot be read");
    exit(1);
}

static void hash_blocks(const struct myst_ext2_inode *inode, struct myst_sha256 *hash)
{
    static char data[MYST_EXT2_BLOCK_MAX];
    struct myst_ext2_run run;
    for (uint64_t at = 0; at < inode->size; at += run.count * fs.block_size)
    {
        need(myst_ext2_map(&fs, inode, at / fs.block_size, &run));
        if (run.block == 0)
            continue;
        const int64_t size = myst_ext2_read(&fs, inode, at, fs.block_size, data);
        need(size);
        myst_sha256_update(hash, &at, sizeof at);
        myst_sha256_update(hash, data, (size_t)size);
    }
}

static void hash_bytes(const struct myst_ext2_inode *inode, struct myst_sha256 *hash)
{
    static char data[10007]; /* no multiple of a block */
    int64_t size;
    for (uint64_t at = 0; at < inode->size; at += (uint64_t)size)
    {
        need(size = myst_ext2_read(&fs, inode, at, sizeof data, data));
        myst_sha256_update(hash, data, (size_t)size);
    }
}

static void print_content(const struct myst_ext2_inode *inode)
{
    struct myst_sha256 hash;
    uint8_t digest[MYST_SHA256_SIZE];
    myst_sha256_init(&hash);
    if (inode->size > LARGE)
        hash_blocks(inode, &hash);
    else
        hash_bytes(inode, &hash);
    myst_sha256_final(&hash, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        printf("%02x", digest[i]);
}

/* As the runtime does where it unpacks a disk: else a directory that is below itself is listed again and again. */
static void refuse_second_name(uint32_t inode)
{
    const uint8_t bit = (uint8_t)(1 << inode % 8);
    if (seen[inode / 8] & bit)
    {
        puts("is a directory with two names");
        exit(1);
    }
    seen[inode / 8] |= bit;
}

/* What is below the directory at `path`, of which `length` bytes count. */
static void list(size_t length, uint32_t number)
{
    static char path[16384], target[PATH_MAX];
    struct myst_ext2_directory *directory = malloc(sizeof *directory);
    struct myst_ext2_inode inode;
    struct myst_ext2_name name;
    int result;
    refuse_second_name(number);
    need(myst_ext2_directory(&fs, number, directory));
    while ((result = myst_ext2_next(&fs, directory, &name)) > 0)
    {
        if (strcmp(name.name, ".") == 0 || strcmp(name.name, "..") == 0)
            continue;
        need(myst_ext2_inode_of(&fs, &name, &inode));
        const int added = snprintf(path + length, sizeof path - length, "%s%s", length ? "/" : "", name.name);
        if (length + (size_t)added >= sizeof path)
            exit(2);
        printf("%o %llu %u %u ", inode.mode, (unsigned long long)inode.size, inode.links, inode.time);
        if (S_ISREG(inode.mode))
            print_content(&inode);
        if (S_ISLNK(inode.mode))
        {
            need(myst_ext2_target(&fs, &inode, target));
            fputs(target, stdout);
        }
        printf(" %s%c", path, 0);
        if (S_ISDIR(inode.mode))
            list(length + (size_t)added, inode.number);
    }
    need(result);
    free(directory);
}

int main(int argc, char **argv)
{
    struct myst_error error;
    static struct myst_disk disk = {.name = "disk"};
    if (argc != 3 || (disk.file = open(argv[1], O_RDONLY)) < 0)
        return 2;
    disk.size = strtoull(argv[2], NULL, 10);
    disk.cache = calloc(MYST_DISK_CACHE, sizeof *disk.cache);
    if (myst_ext2_open(&fs, &disk, &error) != 0)
    {
        puts(error.text);
        return 1;
    }
    seen = calloc(fs.inodes / 8 + 1, 1);
    list(0, MYST_EXT2_ROOT);
    return 0;
}
