#include "fuse.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>

#define MINOR 31           /* of Linux 5.4: all that is used here */
#define FOREVER (1u << 30) /* seconds: nothing changes */
#define MAX_PAGES 256
#define MAX_WRITE MYST_PAGE /* nothing is written, and Linux takes no less */
#define GENERATION 1

#define WANTED                                                                                                    \
    (FUSE_ASYNC_READ | FUSE_EXPORT_SUPPORT | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_PARALLEL_DIROPS | \
     FUSE_CACHE_SYMLINKS | FUSE_MAX_PAGES | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT)

/* A request and the place for what is said to it. Functions return the number of bytes behind the header, or a negative
 * errno. */
struct exchange
{
    struct myst_ext2 *fs;
    const struct fuse_in_header *header;
    const void *arguments; /* `size` bytes */
    size_t size;
    uint8_t *reply; /* MYST_FUSE_REPLY_MAX less the header */
};

#define REPLY_ROOM (MYST_FUSE_REPLY_MAX - sizeof(struct fuse_out_header))

/* Linux calls the root 1; ext2 has another use for that. */
static uint32_t inode_number(uint64_t node)
{
    return node == FUSE_ROOT_ID ? MYST_EXT2_ROOT : node > UINT32_MAX ? 0 : (uint32_t)node;
}

static uint64_t node_of(uint32_t inode)
{
    return inode == MYST_EXT2_ROOT ? FUSE_ROOT_ID : inode;
}

/* All belongs to user 0: the sandbox has no other. */
static struct fuse_attr attributes_of(const struct myst_ext2_inode *inode)
{
    return (struct fuse_attr){
        .ino = inode->number,
        .size = inode->size,
        .blocks = inode->sectors,
        .atime = inode->time,
        .mtime = inode->time,
        .ctime = inode->time,
        .mode = inode->mode,
        .nlink = inode->links,
        .blksize = MYST_PAGE,
    };
}

static struct fuse_entry_out entry_of(const struct myst_ext2_inode *inode)
{
    return (struct fuse_entry_out){
        .nodeid = node_of(inode->number),
        .generation = GENERATION,
        .entry_valid = FOREVER,
        .attr_valid = FOREVER,
        .attr = attributes_of(inode),
    };
}

static int64_t give(const struct exchange *exchange, const void *data, size_t size)
{
    memcpy(exchange->reply, data, size);
    return (int64_t)size;
}

/* Of the arguments that have this form; NULL where they are too short. */
static const void *arguments(const struct exchange *exchange, size_t size)
{
    return exchange->size >= size ? exchange->arguments : NULL;
}

static int64_t begin(const struct exchange *exchange)
{
    const struct fuse_init_in *in = arguments(exchange, 4 * sizeof(uint32_t));
    if (!in || in->major != FUSE_KERNEL_VERSION || in->minor < MINOR)
        return -EPROTO;
    const struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = MINOR,
        .max_readahead = in->max_readahead,
        .flags = in->flags & WANTED,
        .max_background = 16,
        .congestion_threshold = 12,
        .max_write = MAX_WRITE,
        .time_gran = 1,
        .max_pages = MAX_PAGES,
    };
    return give(exchange, &out, sizeof out);
}

/* A file that is not there is told as one without a number, which Linux then remembers. */
static int64_t look_up(const struct exchange *exchange)
{
    static struct myst_ext2_directory directory;
    static const struct fuse_entry_out missing = {.entry_valid = FOREVER};
    struct myst_ext2_inode inode;
    struct myst_ext2_name name;
    const char *wanted = exchange->arguments;
    const size_t length = strnlen(wanted, exchange->size);
    const uint32_t number = inode_number(exchange->header->nodeid);
    if (length == exchange->size)
        return -EINVAL;
    if (length > MYST_EXT2_NAME_MAX)
        return -ENAMETOOLONG;
    if (myst_ext2_directory(exchange->fs, number, &directory) != 0)
        return -EIO;
    const int found = myst_ext2_find(exchange->fs, &directory, wanted, length, &name);
    if (found < 0 || (found > 0 && myst_ext2_inode_of(exchange->fs, &name, &inode) != 0))
        return -EIO;
    if (found == 0)
        return give(exchange, &missing, sizeof missing);
    const struct fuse_entry_out entry = entry_of(&inode);
    return give(exchange, &entry, sizeof entry);
}

static int64_t get_attributes(const struct exchange *exchange)
{
    struct myst_ext2_inode inode;
    if (myst_ext2_inode(exchange->fs, inode_number(exchange->header->nodeid), &inode) != 0)
        return -EIO;
    const struct fuse_attr_out out = {.attr_valid = FOREVER, .attr = attributes_of(&inode)};
    return give(exchange, &out, sizeof out);
}

static int64_t read_link(const struct exchange *exchange)
{
    struct myst_ext2_inode inode;
    if (myst_ext2_inode(exchange->fs, inode_number(exchange->header->nodeid), &inode) != 0)
        return -EIO;
    const int size = myst_ext2_target(exchange->fs, &inode, (char *)exchange->reply);
    return size < 0 ? -EIO : size;
}

/* Where one block is wrong all that was asked for fails, and Linux asks for single pages. */
static int64_t read_file(const struct exchange *exchange)
{
    const struct fuse_read_in *in = arguments(exchange, sizeof *in);
    struct myst_ext2_inode inode;
    if (!in || in->size > REPLY_ROOM)
        return -EINVAL;
    if (myst_ext2_inode(exchange->fs, inode_number(exchange->header->nodeid), &inode) != 0)
        return -EIO;
    if (!S_ISREG(inode.mode))
        return -EINVAL;
    const int64_t size = myst_ext2_read(exchange->fs, &inode, in->offset, in->size, exchange->reply);
    return size < 0 ? -EIO : size;
}

static bool is_dots(const struct myst_ext2_name *name)
{
    return strcmp(name->name, ".") == 0 || strcmp(name->name, "..") == 0;
}

/* Adds an entry with what Linux would look up next, where that can be read; returns false where there is no room. */
static bool add_entry(const struct exchange *exchange, const struct myst_ext2_name *name, uint64_t next, bool plus,
                      size_t room, size_t *used)
{
    const size_t head = plus ? sizeof(struct fuse_entry_out) : 0;
    const size_t size = FUSE_DIRENT_ALIGN(head + FUSE_NAME_OFFSET + name->length);
    const struct fuse_dirent entry = {
        .ino = name->inode, .off = next, .namelen = name->length, .type = name->type >> 12};
    uint8_t *at = exchange->reply + *used;
    struct myst_ext2_inode inode;
    if (*used + size > room)
        return false;
    memset(at, 0, size);
    if (plus && !is_dots(name) && myst_ext2_inode_of(exchange->fs, name, &inode) == 0)
    {
        const struct fuse_entry_out found = entry_of(&inode);
        memcpy(at, &found, head);
    }
    memcpy(at + head, &entry, FUSE_NAME_OFFSET);
    memcpy(at + head + FUSE_NAME_OFFSET, name->name, name->length);
    *used += size;
    return true;
}

static int64_t read_directory(const struct exchange *exchange, bool plus)
{
    static struct myst_ext2_directory directory;
    const struct fuse_read_in *in = arguments(exchange, sizeof *in);
    struct myst_ext2_name name;
    size_t used = 0;
    int result;
    if (!in)
        return -EINVAL;
    if (myst_ext2_directory(exchange->fs, inode_number(exchange->header->nodeid), &directory) != 0)
        return -EIO;
    directory.at = in->offset;
    const size_t room = in->size < REPLY_ROOM ? in->size : REPLY_ROOM;
    while ((result = myst_ext2_next(exchange->fs, &directory, &name)) > 0)
        if (!add_entry(exchange, &name, directory.at, plus, room, &used))
            break;
    return result < 0 && used == 0 ? -EIO : (int64_t)used;
}

static int64_t examine_file_system(const struct exchange *exchange)
{
    const struct fuse_statfs_out out = {.st = {.bsize = MYST_PAGE, .frsize = MYST_PAGE, .namelen = MYST_EXT2_NAME_MAX}};
    return give(exchange, &out, sizeof out);
}

/* What is not here Linux does without: to open and to close, and extended attributes. */
static int64_t answer(const struct exchange *exchange)
{
    switch (exchange->header->opcode)
    {
    case FUSE_INIT:
        return begin(exchange);
    case FUSE_LOOKUP:
        return look_up(exchange);
    case FUSE_GETATTR:
        return get_attributes(exchange);
    case FUSE_READLINK:
        return read_link(exchange);
    case FUSE_READ:
        return read_file(exchange);
    case FUSE_READDIR:
        return read_directory(exchange, false);
    case FUSE_READDIRPLUS:
        return read_directory(exchange, true);
    case FUSE_STATFS:
        return examine_file_system(exchange);
    default:
        return -ENOSYS;
    }
}

static bool is_answered(uint32_t operation)
{
    return operation != FUSE_FORGET && operation != FUSE_BATCH_FORGET && operation != FUSE_INTERRUPT;
}

size_t myst_fuse_answer(struct myst_ext2 *fs, const void *request, size_t size, void *reply)
{
    const struct fuse_in_header *header = request;
    struct fuse_out_header *out = reply;
    if (size < sizeof *header || !is_answered(header->opcode))
        return 0;
    const struct exchange exchange = {
        .fs = fs,
        .header = header,
        .arguments = header + 1,
        .size = size - sizeof *header,
        .reply = (uint8_t *)(out + 1),
    };
    const int64_t result = answer(&exchange);
    *out = (struct fuse_out_header){
        .len = (uint32_t)(sizeof *out + (result > 0 ? (size_t)result : 0)),
        .error = result < 0 ? (int32_t)result : 0,
        .unique = header->unique,
    };
    return out->len;
}
