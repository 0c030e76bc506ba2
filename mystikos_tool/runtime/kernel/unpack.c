#include "unpack.h"

#include "../common/error.h"
#include "../common/sizes.h"
#include "write.h"
#include "write_behind.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RELEASE_STEP (4ull << 20)  /* bytes given back at once: whole large pages; also the largest write */
#define THREADED_SIZE (4ull << 20) /* archives of fewer bytes are not worth a thread */
#define MAX_BEHIND (6ull << 20)    /* bytes of the archive between what is written and what is read */
#define MAX_DEPTH (MYST_ENTRY_NAME_MAX / 2)

/* The directory that the last entry went into, with an open descriptor for every level: archives list a
 * directory's entries together, so that most entries open no directory at all. */
struct cursor
{
    char path[MYST_ENTRY_NAME_MAX];
    size_t ends[MAX_DEPTH];         /* where each component ends in path */
    int descriptors[MAX_DEPTH + 1]; /* [0] is the root */
    size_t depth;
};

/* Messages begin with it. */
static const char *subject;

/* The archive's pages before `end` were given back to the system. */
struct released
{
    uintptr_t end;
};

/* Gives back what lies before the last multiple of `step` at or below `up_to`. */
static void release(struct released *released, const unsigned char *up_to, size_t step)
{
    uintptr_t end = (uintptr_t)up_to & ~(uintptr_t)(step - 1);
    if (end <= released->end)
        return;
    /* Refused at worst, and then only memory is lost. */
    madvise((void *)released->end, end - released->end, MADV_DONTNEED);
    released->end = end;
}

__attribute__((noreturn)) static void refuse_entry(const char *path)
{
    myst_refuse_errno("%s: cannot unpack %s", subject, path);
}

/* Keeps the first components of the cursor that are also the first ones of `directory`; returns where
 * the rest of it begins. */
static size_t keep_common(struct cursor *cursor, const char *directory, size_t length)
{
    size_t common = 0;
    while (common < cursor->depth)
    {
        size_t end = cursor->ends[common];
        if (end > length || memcmp(cursor->path, directory, end) != 0 || (end < length && directory[end] != '/'))
            break;
        common++;
    }
    while (cursor->depth > common)
        close(cursor->descriptors[cursor->depth--]);
    return common ? cursor->ends[common - 1] : 0;
}

/* Opens the first `length` bytes of `path`, a directory, never through a symbolic link. */
static int enter(struct cursor *cursor, const char *path, size_t length)
{
    size_t at = keep_common(cursor, path, length);
    while (at < length)
    {
        char name[MYST_ENTRY_NAME_MAX];
        at += at > 0; /* the separator */
        size_t size = strcspn(path + at, "/");
        memcpy(name, path + at, size);
        name[size] = 0;
        int descriptor =
            openat(cursor->descriptors[cursor->depth], name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (descriptor < 0)
        {
            if (errno == ENOTDIR || errno == ELOOP)
                myst_refuse("%s: %s lies below something that is not a directory", subject, path);
            if (errno == ENOENT)
                myst_refuse("%s: %s comes before its directory", subject, path);
            refuse_entry(path);
        }
        at += size;
        memcpy(cursor->path, path, at);
        cursor->ends[cursor->depth] = at;
        cursor->descriptors[++cursor->depth] = descriptor;
    }
    return cursor->descriptors[cursor->depth];
}

static bool is_directory(int parent, const char *name)
{
    struct stat status;
    return fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

static void make_directory(int parent, const char *name, mode_t mode, const char *path)
{
    bool exists = false;
    if (mkdirat(parent, name, mode & 01777) != 0)
    {
        exists = errno == EEXIST && is_directory(parent, name);
        if (!exists)
            refuse_entry(path);
    }
    /* mkdir sets no set-id bits. What fchmodat follows is no link: it was just seen to be a directory. */
    if ((exists || (mode & 06000)) && fchmodat(parent, name, mode & 07777, 0) != 0)
        refuse_entry(path);
}

/* Writes a file that the second thread did not take. */
static void write_content(int file, const struct myst_entry *entry, struct myst_write_behind *behind,
                          struct released *released, const char *path)
{
    const unsigned char *at = entry->data, *end = entry->data + entry->size;
    if (entry->size > RELEASE_STEP)
        myst_write_behind_wait(behind); /* what lies before it can then be given back meanwhile */
    while (at < end)
    {
        const size_t left = (size_t)(end - at), size = left < RELEASE_STEP ? left : RELEASE_STEP;
        if (myst_write_all(file, at, size) != 0)
            refuse_entry(path);
        at += size;
        if (entry->size > RELEASE_STEP)
            release(released, at, RELEASE_STEP);
    }
    if (myst_close_written(file, entry->mode) != 0)
        refuse_entry(path);
}

static void make_file(int parent, const char *name, const struct myst_entry *entry, struct myst_write_behind *behind,
                      struct released *released, const char *path)
{
    /* newc keeps the content of hard links with the last of them only. */
    if (entry->links > 1 && entry->size == 0)
        myst_refuse("%s: %s is one of several hard links, which are not supported", subject, path);
    int file = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, entry->mode & 07777);
    if (file < 0)
        refuse_entry(path);
    if (!myst_write_behind_take(behind, file, entry))
        write_content(file, entry, behind, released, path);
}

static void make_link(int parent, const char *name, const struct myst_entry *entry, const char *path)
{
    char target[PATH_MAX];
    if (entry->size == 0 || entry->size >= sizeof target || memchr(entry->data, 0, entry->size))
        myst_refuse("%s: %s is a symbolic link with a malformed target", subject, path);
    memcpy(target, entry->data, entry->size);
    target[entry->size] = 0;
    if (symlinkat(target, parent, name) != 0)
        refuse_entry(path);
}

static void make_root(const struct myst_entry *entry, int root)
{
    if (!S_ISDIR(entry->mode))
        myst_refuse("%s: its root is not a directory", subject);
    /* The descriptor is an O_PATH one, which fchmod does not take. */
    if (fchmodat(root, ".", entry->mode & 07777, 0) != 0)
        refuse_entry("/");
}

static void make_entry(struct cursor *cursor, const struct myst_entry *entry, struct myst_write_behind *behind,
                       struct released *released)
{
    char path[MYST_ENTRY_NAME_MAX];
    if (myst_entry_path(entry, path) != 0)
        myst_refuse("%s: the archive's entry %s leads out of the root", subject, entry->name);
    if (!*path)
    {
        make_root(entry, cursor->descriptors[0]);
        return;
    }
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    int parent = enter(cursor, path, slash ? (size_t)(slash - path) : 0);

    if (S_ISDIR(entry->mode))
        make_directory(parent, name, entry->mode, path);
    else if (S_ISREG(entry->mode))
        make_file(parent, name, entry, behind, released, path);
    else if (S_ISLNK(entry->mode))
        make_link(parent, name, entry, path);
    else
        myst_refuse("%s: %s is neither a file nor a directory nor a symbolic link", subject, path);
}

/* Everything before what is returned is written; `end` is the end of what was read of the archive. What this thread
 * writes itself meanwhile is in memory twice until the other one has caught up. */
static const unsigned char *written_up_to(struct myst_write_behind *behind, const unsigned char *end)
{
    const unsigned char *written = myst_write_behind_written(behind, end);
    if ((size_t)(end - written) <= MAX_BEHIND)
        return written;
    myst_write_behind_wait(behind);
    return end;
}

void myst_unpack(struct myst_archive archive, int root)
{
    subject = archive.name;
    struct released released = {myst_page_up((uintptr_t)archive.data)};
    struct cursor cursor = {.descriptors = {root}};
    struct myst_entry entry;
    struct myst_error error;
    struct myst_write_behind behind;
    int result;

    myst_write_behind_start(&behind, subject, archive.size >= THREADED_SIZE);
    while ((result = myst_archive_next(&archive, &entry, &error)) > 0)
    {
        if (archive.without_set_id)
            entry.mode &= ~(uint32_t)(S_ISUID | S_ISGID);
        if (archive.file_mode && S_ISREG(entry.mode))
            entry.mode = S_IFREG | archive.file_mode;
        make_entry(&cursor, &entry, &behind, &released);
        release(&released, written_up_to(&behind, archive.data + archive.at), RELEASE_STEP);
    }
    if (result < 0)
        myst_refuse("%s", error.text);
    myst_write_behind_finish(&behind);
    release(&released, archive.data + archive.size, MYST_PAGE);
    keep_common(&cursor, "", 0);
}
