#include "landlock.h"

#include "../common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* include/uapi/linux/landlock.h; the numbers of the calls are the same for all machines. */
#define CREATE_RULESET 444
#define ADD_RULE 445
#define RESTRICT_SELF 446
#define RULESET_VERSION 1u
#define RULE_PATH_BENEATH 1

#define EXECUTE (1ull << 0)
#define WRITE_FILE (1ull << 1)
#define READ_FILE (1ull << 2)
#define READ_DIR (1ull << 3)
#define REFER (1ull << 13)    /* version 2: without it no file is moved to another directory */
#define TRUNCATE (1ull << 14) /* version 3 */

#define SCOPE_ABSTRACT_SOCKETS 1ull /* version 6 */

struct ruleset
{
    uint64_t files, network, scopes;
};

struct __attribute__((packed)) rule
{
    uint64_t allowed;
    int32_t below;
};

/* False for a file of no file system that has paths, as memfd_create and pipe make one: no rule restricts it. */
static bool allow(int ruleset, int file, uint64_t rights)
{
    const struct rule rule = {.allowed = rights, .below = file};
    if (syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) == 0)
        return true;
    if (errno != EBADFD)
        myst_refuse_errno("cannot restrict paths");
    return false;
}

/* Memory that is a file could be opened again by its number to be written to. */
static void refuse_unsealed(int descriptor, int flags)
{
    const int access = flags & O_ACCMODE, seals = fcntl(descriptor, F_GET_SEALS);
    const bool sealed = seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE));
    if ((access != O_RDWR || (flags & O_APPEND)) && !(access == O_RDONLY && sealed))
        myst_refuse("descriptor %d is memory of the host that could be opened again in another way: seal it, or give "
                    "a file or a pipe",
                    descriptor);
}

/* What was opened outside may be opened again by its number: a terminal for all, anything else for what the descriptor
 * can do to it, which for a file that is appended to is not to write anywhere, and for a path alone nothing. */
static void allow_descriptor(int ruleset, int descriptor)
{
    struct stat status;
    char path[32];
    const int flags = fcntl(descriptor, F_GETFL), access = flags & O_ACCMODE;
    uint64_t rights = access != O_WRONLY ? READ_FILE : 0;
    if (access != O_RDONLY && !(flags & O_APPEND))
        rights |= WRITE_FILE;
    if (flags < 0 || (flags & O_PATH) || fstat(descriptor, &status) != 0 || S_ISSOCK(status.st_mode))
        return;
    if (isatty(descriptor))
        rights = READ_FILE | WRITE_FILE;
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    const int file = open(path, O_PATH | O_CLOEXEC);
    if (file < 0)
        return;
    if (rights && !allow(ruleset, file, rights) && S_ISREG(status.st_mode))
        refuse_unsealed(descriptor, flags);
    close(file);
}

void myst_restrict_paths(bool host_sockets)
{
    const long version = syscall(CREATE_RULESET, NULL, 0, RULESET_VERSION);
    if (version < 2)
        return;
    const uint64_t rights = EXECUTE | WRITE_FILE | READ_FILE | READ_DIR | REFER | (version >= 3 ? TRUNCATE : 0);
    const struct ruleset attributes = {.files = rights,
                                       .scopes = version >= 6 && !host_sockets ? SCOPE_ABSTRACT_SOCKETS : 0};
    const int ruleset = (int)syscall(CREATE_RULESET, &attributes, version >= 6 ? 24ul : 8ul, 0);
    const int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (ruleset < 0 || root < 0)
        myst_refuse_errno("cannot restrict paths");
    allow(ruleset, root, rights);
    for (int i = 0; i < 3; i++)
        allow_descriptor(ruleset, i);
    if (syscall(RESTRICT_SELF, ruleset, 0) != 0)
        myst_refuse_errno("cannot restrict paths");
    close(root);
    close(ruleset);
}
