#include "users.h"

#include "../common/sizes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_GROUPS 32 /* NGROUPS_MAX of Mystikos' C library */
#define MAX_CREDENTIALS 4096
#define NO_CHANGE UINT32_MAX
#define MAX_ACCOUNTS_SIZE (1u << 20)

struct credentials
{
    struct myst_user user, group;
    uint32_t group_count, groups[MAX_GROUPS];
};

/* Every combination that a process has had; the first is what all begin with. */
static struct credentials *known;
static size_t known_count;

static bool prepare(void)
{
    if (known)
        return true;
    known = calloc(MAX_CREDENTIALS, sizeof *known);
    known_count = known ? 1 : 0;
    return known;
}

static const struct credentials *find(const struct myst_call *call)
{
    static const struct credentials first;
    struct rlimit kept;
    if (known_count <= 1 || prlimit(myst_call_thread(call), MYST_USERS_LIMIT, NULL, &kept) != 0 ||
        kept.rlim_cur >= known_count)
        return &first;
    return &known[kept.rlim_cur];
}

static size_t remember(const struct credentials *credentials)
{
    for (size_t i = 0; i < known_count; i++)
        if (memcmp(&known[i], credentials, sizeof *credentials) == 0)
            return i;
    if (known_count == MAX_CREDENTIALS)
        return MAX_CREDENTIALS;
    known[known_count] = *credentials;
    return known_count++;
}

static int64_t set(const struct myst_call *call, const struct credentials *credentials)
{
    struct rlimit kept;
    const size_t index = prepare() ? remember(credentials) : MAX_CREDENTIALS;
    if (index == MAX_CREDENTIALS)
        return -EAGAIN;
    if (prlimit(myst_call_thread(call), MYST_USERS_LIMIT, NULL, &kept) != 0)
        return -errno;
    kept.rlim_cur = index;
    return prlimit(myst_call_thread(call), MYST_USERS_LIMIT, &kept, NULL) == 0 ? 0 : -errno;
}

struct myst_user myst_caller_user(const struct myst_call *call)
{
    return find(call)->user;
}

struct myst_user myst_caller_group(const struct myst_call *call)
{
    return find(call)->group;
}

bool myst_caller_is_in_group(const struct myst_call *call, uint32_t group)
{
    const struct credentials *credentials = find(call);
    bool is_in = group == credentials->group.effective;
    for (uint32_t i = 0; i < credentials->group_count; i++)
        is_in |= credentials->groups[i] == group;
    return is_in;
}

static bool third_field_is(const char *line, uint32_t id)
{
    char *end;
    const char *at = strchr(line, ':');
    at = at ? strchr(at + 1, ':') : NULL;
    return at && strtoul(at + 1, &end, 10) == id && end != at + 1 && *end == ':';
}

/* True when a line of the file, as /etc/passwd and /etc/group are, has the id as its third field. */
static bool has_account(const char *file_name, uint32_t id)
{
    struct stat status;
    bool found = false;
    char *line = NULL;
    size_t room = 0;
    const int file = open(file_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return false;
    FILE *stream = fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size <= MAX_ACCOUNTS_SIZE
                       ? fdopen(file, "r")
                       : NULL;
    if (!stream)
    {
        close(file);
        return false;
    }
    while (!found && getline(&line, &room, stream) > 0)
        found = third_field_is(line, id);
    free(line);
    fclose(stream);
    return found;
}

/* What tells users from groups. */
struct kind
{
    const char *accounts;
    size_t offset; /* in struct credentials */
};

static const struct kind users = {"/etc/passwd", offsetof(struct credentials, user)};
static const struct kind groups = {"/etc/group", offsetof(struct credentials, group)};

static struct myst_user *ids_of(struct credentials *credentials, const struct kind *kind)
{
    return (struct myst_user *)((char *)credentials + kind->offset);
}

/* 0 is a user wherever there are no accounts. */
static bool exists(const struct kind *kind, uint32_t id)
{
    return id == 0 || (id != NO_CHANGE && has_account(kind->accounts, id));
}

static bool exists_or_stays(const struct kind *kind, uint32_t id)
{
    return id == NO_CHANGE || exists(kind, id);
}

static bool is_one_of(uint32_t id, uint32_t one, uint32_t other)
{
    return id == NO_CHANGE || id == one || id == other;
}

static void put(uint32_t *to, uint32_t id)
{
    if (id != NO_CHANGE)
        *to = id;
}

/* setuid and setgid. As in Mystikos, setgid is judged by the group: 0 may become any. */
static int64_t set_all(const struct myst_call *call, const struct kind *kind)
{
    struct credentials credentials = *find(call);
    struct myst_user *ids = ids_of(&credentials, kind);
    const uint32_t id = (uint32_t)myst_call_argument(call, 0);
    if (!exists(kind, id))
        return -EINVAL;
    if (ids->effective == 0)
        *ids = (struct myst_user){id, id, id, id};
    else if (id != ids->real && id != ids->saved)
        return -EPERM;
    ids->effective = ids->file_system = id;
    return set(call, &credentials);
}

/* Whether these are allowed to a caller who is not user 0. For groups, Mystikos compares one of them with the user. */
static bool may_set_two(const struct credentials *credentials, const struct myst_user *ids, uint32_t real,
                        uint32_t effective)
{
    const bool swaps = ids->real == effective && ids->effective == real;
    return swaps ||
           (is_one_of(real, credentials->user.effective, ids->saved) && is_one_of(effective, ids->real, ids->saved));
}

static int64_t set_real_and_effective(const struct myst_call *call, const struct kind *kind)
{
    const uint32_t real = (uint32_t)myst_call_argument(call, 0), effective = (uint32_t)myst_call_argument(call, 1);
    struct credentials credentials = *find(call);
    struct myst_user *ids = ids_of(&credentials, kind);
    const bool saves = effective != NO_CHANGE && (real != NO_CHANGE || ids->real != effective);
    const bool stays =
        (real == NO_CHANGE && effective == NO_CHANGE) || (real == ids->real && effective == ids->effective);
    if (!stays)
    {
        if (!exists_or_stays(kind, real) || !exists_or_stays(kind, effective))
            return -EPERM;
        if (credentials.user.effective != 0 && !may_set_two(&credentials, ids, real, effective))
            return -EPERM;
        put(&ids->real, real);
        put(&ids->effective, effective);
    }
    put(&ids->saved, saves ? effective : NO_CHANGE);
    return set(call, &credentials);
}

static int64_t set_real_effective_and_saved(const struct myst_call *call, const struct kind *kind)
{
    const uint32_t real = (uint32_t)myst_call_argument(call, 0), effective = (uint32_t)myst_call_argument(call, 1),
                   saved = (uint32_t)myst_call_argument(call, 2);
    struct credentials credentials = *find(call);
    struct myst_user *ids = ids_of(&credentials, kind);
    if (!exists_or_stays(kind, real) || !exists_or_stays(kind, effective) || !exists_or_stays(kind, saved))
        return -EINVAL;
    if (credentials.user.effective != 0 &&
        !(is_one_of(real, ids->effective, ids->saved) && is_one_of(effective, ids->real, ids->saved) &&
          is_one_of(saved, ids->real, ids->effective)))
        return -EPERM;
    put(&ids->real, real);
    put(&ids->effective, effective);
    put(&ids->saved, saved);
    put(&ids->file_system, effective);
    return set(call, &credentials);
}

static int64_t set_file_system(const struct myst_call *call, const struct kind *kind)
{
    struct credentials credentials = *find(call);
    struct myst_user *ids = ids_of(&credentials, kind);
    const uint32_t id = (uint32_t)myst_call_argument(call, 0), before = ids->file_system;
    const bool is_own = id == ids->real || id == ids->effective || id == ids->saved;
    if (!exists(kind, id) || (credentials.user.effective != 0 && !is_own))
        return before;
    ids->file_system = id;
    set(call, &credentials);
    return before;
}

static int64_t get_three(const struct myst_call *call, const struct kind *kind)
{
    struct credentials credentials = *find(call);
    const struct myst_user *ids = ids_of(&credentials, kind);
    const uint32_t values[] = {ids->real, ids->effective, ids->saved};
    for (int i = 0; i < 3; i++)
    {
        const int64_t result = myst_call_write(call, myst_call_argument(call, i), &values[i], sizeof values[i]);
        if (result != 0)
            return result;
    }
    return 0;
}

static int64_t set_groups(const struct myst_call *call)
{
    struct credentials credentials = *find(call);
    const uint64_t count = myst_call_argument(call, 0);
    if (count > MAX_GROUPS)
        return -EINVAL;
    if (credentials.user.effective != 0)
        return -EPERM;
    memset(credentials.groups, 0, sizeof credentials.groups);
    credentials.group_count = (uint32_t)count;
    const int64_t result =
        count ? myst_call_read(call, myst_call_argument(call, 1), credentials.groups, count * sizeof(uint32_t)) : 0;
    return result != 0 ? result : set(call, &credentials);
}

static int64_t get_groups(const struct myst_call *call)
{
    const struct credentials *credentials = find(call);
    const int room = (int)myst_call_argument(call, 0);
    const uint32_t count = credentials->group_count;
    if (room == 0)
        return count;
    if (room < 0 || (uint32_t)room < count)
        return -EINVAL;
    const int64_t result =
        count ? myst_call_write(call, myst_call_argument(call, 1), credentials->groups, count * sizeof(uint32_t)) : 0;
    return result != 0 ? result : count;
}

int64_t myst_serve_users(const struct myst_call *call)
{
    switch (call->notification.data.nr)
    {
    case SYS_getuid:
        return find(call)->user.real;
    case SYS_geteuid:
        return find(call)->user.effective;
    case SYS_getgid:
        return find(call)->group.real;
    case SYS_getegid:
        return find(call)->group.effective;
    case SYS_getresuid:
        return get_three(call, &users);
    case SYS_getresgid:
        return get_three(call, &groups);
    case SYS_setuid:
        return set_all(call, &users);
    case SYS_setgid:
        return set_all(call, &groups);
    case SYS_setreuid:
        return set_real_and_effective(call, &users);
    case SYS_setregid:
        return set_real_and_effective(call, &groups);
    case SYS_setresuid:
        return set_real_effective_and_saved(call, &users);
    case SYS_setresgid:
        return set_real_effective_and_saved(call, &groups);
    case SYS_setfsuid:
        return set_file_system(call, &users);
    case SYS_setfsgid:
        return set_file_system(call, &groups);
    case SYS_getgroups:
        return get_groups(call);
    case SYS_setgroups:
        return set_groups(call);
    default:
        return MYST_CONTINUE;
    }
}
