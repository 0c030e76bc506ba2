/* The unpacker, into a directory of its own in memory. Linked with --wrap for the calls by which it makes
 * something: each has to name one component below a directory of the root, and to follow no link. As the
 * directories are opened the same way, nothing can then come to lie outside. */
#include "common/sizes.h"
#include "kernel/unpack.h"
#include "refused.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SIZE (64u << 10)

static char scratch[] = "/dev/shm/myst-fuzz-XXXXXX";
static int root = -1;
static unsigned char *memory; /* for the archive, which ends where a page that cannot be read begins */
static int first_descriptor;

int __real_openat(int directory, const char *name, int flags, ...);
int __wrap_openat(int directory, const char *name, int flags, ...);
int __real_mkdirat(int directory, const char *name, mode_t mode);
int __wrap_mkdirat(int directory, const char *name, mode_t mode);
int __real_symlinkat(const char *target, int directory, const char *name);
int __wrap_symlinkat(const char *target, int directory, const char *name);
int __real_fchmodat(int directory, const char *name, mode_t mode, int flags);
int __wrap_fchmodat(int directory, const char *name, mode_t mode, int flags);
int __wrap_open(const char *name, int flags, ...);

static void check_component(int directory, const char *name)
{
    PROMISE(directory == root || directory >= first_descriptor);
    PROMISE(*name && !strchr(name, '/') && strcmp(name, "..") != 0);
}

int __wrap_openat(int directory, const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    check_component(directory, name);
    PROMISE(flags & O_NOFOLLOW);
    PROMISE(flags & O_CLOEXEC);
    PROMISE((flags & (O_PATH | O_DIRECTORY)) == (O_PATH | O_DIRECTORY) || (flags & O_EXCL));
    return __real_openat(directory, name, flags, mode);
}

int __wrap_mkdirat(int directory, const char *name, mode_t mode)
{
    check_component(directory, name);
    return __real_mkdirat(directory, name, mode);
}

int __wrap_symlinkat(const char *target, int directory, const char *name)
{
    check_component(directory, name);
    return __real_symlinkat(target, directory, name);
}

/* It follows links: only directories have their modes changed by it. */
int __wrap_fchmodat(int directory, const char *name, mode_t mode, int flags)
{
    struct stat status;
    check_component(directory, name);
    PROMISE(fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode));
    return __real_fchmodat(directory, name, mode, flags);
}

int __wrap_open(const char *name, int flags, ...)
{
    (void)name, (void)flags;
    PROMISE(!"the unpacker opens by path");
    return -1;
}

/* Removes what is in a directory; closes it. Not by paths: they can be longer than a path may be. */
static void empty(int directory)
{
    DIR *list = fdopendir(directory);
    struct dirent *entry;
    PROMISE(list);
    while ((entry = readdir(list)))
    {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (entry->d_type == DT_DIR)
        {
            __real_fchmodat(directory, name, 0700, 0);
            empty(__real_openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        }
        PROMISE(unlinkat(directory, name, entry->d_type == DT_DIR ? AT_REMOVEDIR : 0) == 0);
    }
    closedir(list);
}

static void clear_root(void)
{
    PROMISE(__real_fchmodat(root, ".", 0700, 0) == 0);
    empty(__real_openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static void remove_scratch(void)
{
    clear_root();
    rmdir(scratch);
}

static void set_up(void)
{
    PROMISE(mkdtemp(scratch));
    root = __real_openat(AT_FDCWD, scratch, O_PATH | O_DIRECTORY | O_CLOEXEC);
    PROMISE(root >= 0);
    atexit(remove_scratch);
    memory = mmap(NULL, MAX_SIZE + MYST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    PROMISE(memory != MAP_FAILED && mprotect(memory + MAX_SIZE, MYST_PAGE, PROT_NONE) == 0);
    umask(0);
    first_descriptor = dup(root);
    close(first_descriptor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > MAX_SIZE)
        return 0;
    if (root < 0)
        set_up();
    unsigned char *archive = memory + MAX_SIZE - size;
    memcpy(archive, data, size);
    const int was_refused = setjmp(refused);
    if (!was_refused)
        myst_unpack((struct myst_archive){.data = archive, .size = size, .name = "archive"}, root);
    /* What was refused ends the process, and leaves its descriptors to that. */
    const int next = dup(root);
    close(next);
    PROMISE(was_refused || next == first_descriptor);
    if (next != first_descriptor)
        close_range((unsigned)first_descriptor, (unsigned)next, 0);
    clear_root();
    return 0;
}
