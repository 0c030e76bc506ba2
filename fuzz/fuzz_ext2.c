/* The reader of ext2, asked by way of FUSE for all that it finds, as Linux would. */
#include "common/error.h"
#include "fuzz.h"
#include "kernel/fuse.h"

#include <linux/fuse.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_NODES 64

static int file = -1;
static struct myst_disk disk;
static struct myst_ext2 fs;
static uint64_t nodes[MAX_NODES];
static size_t node_count;
static _Alignas(8) uint8_t reply[MYST_FUSE_REPLY_MAX];

/* The size of what came behind the header, or -1 for an error. */
static int64_t ask(uint32_t operation, uint64_t node, const void *arguments, size_t size)
{
    static _Alignas(8) uint8_t request[MYST_FUSE_REQUEST_MAX];
    const struct fuse_in_header header = {
        .len = (uint32_t)(sizeof header + size), .opcode = operation, .unique = 7, .nodeid = node};
    struct fuse_out_header out;
    memcpy(request, &header, sizeof header);
    memcpy(request + sizeof header, arguments, size);
    const size_t answered = myst_fuse_answer(&fs, request, header.len, reply);
    PROMISE(answered >= sizeof out && answered <= sizeof reply);
    memcpy(&out, reply, sizeof out);
    PROMISE(out.len == answered && out.unique == 7 && out.error <= 0 && out.error > -4096);
    PROMISE(out.error == 0 || answered == sizeof out);
    return out.error ? -1 : (int64_t)(answered - sizeof out);
}

static void note(uint64_t node)
{
    for (size_t i = 0; i < node_count; i++)
        if (nodes[i] == node)
            return;
    if (node_count < MAX_NODES)
        nodes[node_count++] = node;
}

static void look_up(uint64_t node, const char *name, uint16_t length)
{
    char wanted[256];
    struct fuse_entry_out entry;
    memcpy(wanted, name, length);
    wanted[length] = 0;
    if (ask(FUSE_LOOKUP, node, wanted, length + 1u) < 0)
        return;
    memcpy(&entry, reply + sizeof(struct fuse_out_header), sizeof entry);
    PROMISE(entry.nodeid == 0 || S_ISREG(entry.attr.mode) || S_ISDIR(entry.attr.mode) || S_ISLNK(entry.attr.mode));
    if (entry.nodeid)
        note(entry.nodeid);
}

/* The entries of a piece of a directory; returns where the next one begins, or `at` at the end. */
static uint64_t list(uint64_t node, uint64_t at, uint32_t operation)
{
    static uint8_t entries[8192];
    const struct fuse_read_in in = {.offset = at, .size = sizeof entries};
    const size_t head = operation == FUSE_READDIRPLUS ? sizeof(struct fuse_entry_out) : 0;
    const int64_t size = ask(operation, node, &in, sizeof in);
    uint64_t next = at;
    PROMISE(size <= (int64_t)sizeof entries);
    if (size <= 0)
        return at;
    memcpy(entries, reply + sizeof(struct fuse_out_header), (size_t)size);
    for (size_t i = 0; i < (size_t)size;)
    {
        struct fuse_dirent entry;
        PROMISE(i + head + FUSE_NAME_OFFSET <= (size_t)size);
        memcpy(&entry, entries + i + head, FUSE_NAME_OFFSET);
        const char *name = (const char *)entries + i + head + FUSE_NAME_OFFSET;
        i += FUSE_DIRENT_ALIGN(head + FUSE_NAME_OFFSET + entry.namelen);
        PROMISE(i <= (size_t)size && entry.namelen >= 1 && entry.namelen <= 255);
        PROMISE(!memchr(name, '/', entry.namelen) && !memchr(name, 0, entry.namelen));
        PROMISE(entry.off > next);
        next = entry.off;
        look_up(node, name, (uint16_t)entry.namelen);
    }
    return next;
}

static void read_node(uint64_t node)
{
    struct fuse_attr_out out;
    const struct fuse_getattr_in none = {0};
    if (ask(FUSE_GETATTR, node, &none, sizeof none) < 0)
        return;
    memcpy(&out, reply + sizeof(struct fuse_out_header), sizeof out);
    const uint64_t ends[] = {0, out.attr.size / 2, out.attr.size > 8192 ? out.attr.size - 8192 : 0};
    for (size_t i = 0; i < 3; i++)
    {
        const struct fuse_read_in in = {.offset = ends[i], .size = 8192};
        PROMISE(ask(FUSE_READ, node, &in, sizeof in) <= 8192);
    }
    PROMISE(ask(FUSE_READLINK, node, "", 0) < 4096);
    uint64_t at = 0, next;
    for (int pieces = 0; pieces < 8 && (next = list(node, at, FUSE_READDIRPLUS)) != at; pieces++)
        at = next;
    list(node, out.attr.size / 2 + 1, FUSE_READDIR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct myst_error error;
    if (file < 0)
    {
        file = memfd_create("disk", 0);
        PROMISE(file >= 0 && (disk.cache = malloc(MYST_DISK_CACHE * sizeof *disk.cache)));
    }
    PROMISE(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
    for (size_t i = 0; i < MYST_DISK_CACHE; i++)
        disk.cache[i].number = 0;
    disk.file = file;
    disk.name = "disk";
    disk.size = size;
    if (myst_ext2_open(&fs, &disk, &error) != 0)
    {
        PROMISE(strncmp(error.text, "disk: ", 6) == 0);
        return 0;
    }
    node_count = 0;
    note(FUSE_ROOT_ID);
    for (size_t i = 0; i < node_count; i++)
        read_node(nodes[i]);
    return 0;
}
