#include "config_reader.h"

#include "hex.h"
#include "json.h"
#include "sizes.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAME 64 /* longer than any key */
#define MAX_TEXT (1u << 20)
#define MAX_SIZE (1ull << 46) /* bytes that a size may say */
#define MAX_SIZE_DIGITS 20
#define ROOT_HASH_DIGITS 64

enum kind
{
    KIND_BOOL,        /* true or false */
    KIND_FLAG,        /* the same, or an integer: 0 is false */
    KIND_INTEGER,     /* min..max */
    KIND_PAGE_OFFSET, /* integer > 0, multiple of a page */
    KIND_SIZE,        /* bytes, or a string with k, m or g */
    KIND_TEXT,        /* not empty */
    KIND_TEXT_OR_NULL,
    KIND_HASH_OR_NULL, /* hexadecimal digits */
    KIND_VERSION,
    KIND_ABSOLUTE_PATH,
    KIND_FILE_PATH, /* absolute, with a last component */
    KIND_PATH,      /* absolute or not, empty as well */
    KIND_STRING,    /* of any length */
    KIND_STRINGS,   /* a list, or one string for a list of one */
    KIND_VARIABLES, /* the same, of NAME=VALUE */
    KIND_NAMES,     /* the same, of names of variables */
    KIND_FLAGS,     /* the same, of ro or rw */
    KIND_CHOICE,    /* one of `choices`, stored as its index */
    KIND_MOUNTS,
    KIND_SECRETS, /* checked and counted */
};

struct key
{
    const char *name;
    enum kind kind;
    size_t offset; /* of the field in the struct that the table describes */
    uint64_t min, max;
    const char *const *choices; /* up to a NULL */
};

static const char *const fork_modes[] = {"none", "pseudo", "pseudo_wait_for_exit_exec", NULL};
static const char *const mount_types[] = {"ext2", "hostfs", "ramfs", NULL};
static const char *const syslog_levels[] = {"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", NULL};

#define FIELD(member) offsetof(struct myst_config, member)
static const struct key config_keys[] = {
    {"version", KIND_VERSION, FIELD(version), 0, 0, NULL},
    {"Debug", KIND_FLAG, FIELD(debug), 0, 0, NULL},
    {"ProductID", KIND_INTEGER, FIELD(product_id), 0, 65534, NULL},
    {"SecurityVersion", KIND_INTEGER, FIELD(security_version), 0, 65534, NULL},
    {"CreateZeroBaseEnclave", KIND_BOOL, FIELD(create_zero_base_enclave), 0, 0, NULL},
    {"EnclaveStartAddress", KIND_PAGE_OFFSET, FIELD(enclave_start_address), 0, 0, NULL},
    {"MemorySize", KIND_SIZE, FIELD(memory_size), 0, 0, NULL},
    {"UserMemSize", KIND_SIZE, FIELD(memory_size), 0, 0, NULL},
    {"MainStackSize", KIND_SIZE, FIELD(main_stack_size), 0, 0, NULL},
    {"ThreadStackSize", KIND_SIZE, FIELD(thread_stack_size), 0, 0, NULL},
    {"MaxAffinityCPUs", KIND_INTEGER, FIELD(max_affinity_cpus), 1, INT64_MAX, NULL},
    {"NoBrk", KIND_FLAG, FIELD(no_brk), 0, 0, NULL},
    {"ExecStack", KIND_FLAG, FIELD(exec_stack), 0, 0, NULL},
    {"ApplicationPath", KIND_FILE_PATH, FIELD(application_path), 0, 0, NULL},
    {"HostApplicationParameters", KIND_FLAG, FIELD(host_application_parameters), 0, 0, NULL},
    {"ApplicationParameters", KIND_STRINGS, FIELD(application_parameters), 0, 0, NULL},
    {"EnvironmentVariables", KIND_VARIABLES, FIELD(environment_variables), 0, 0, NULL},
    {"HostEnvironmentVariables", KIND_NAMES, FIELD(host_environment_variables), 0, 0, NULL},
    {"CurrentWorkingDirectory", KIND_PATH, FIELD(current_working_directory), 0, 0, NULL},
    {"Hostname", KIND_STRING, FIELD(hostname), 0, 0, NULL},
    {"ForkMode", KIND_CHOICE, FIELD(fork_mode), 0, 0, fork_modes},
    {"Mount", KIND_MOUNTS, FIELD(mounts), 0, 0, NULL},
    {"UnhandledSyscallEnosys", KIND_FLAG, FIELD(unhandled_syscall_enosys), 0, 0, NULL},
    {"HostUDS", KIND_FLAG, FIELD(host_uds), 0, 0, NULL},
    {"SyslogLevel", KIND_CHOICE, FIELD(syslog_level), 0, 0, syslog_levels},
    {"Secret", KIND_SECRETS, FIELD(secret_count), 0, 0, NULL},
};
#undef FIELD

#define FIELD(member) offsetof(struct myst_mount, member)
static const struct key mount_keys[] = {
    {"Target", KIND_ABSOLUTE_PATH, FIELD(target), 0, 0, NULL},
    {"Type", KIND_CHOICE, FIELD(type), 0, 0, mount_types},
    {"Flags", KIND_FLAGS, FIELD(flags), 0, 0, NULL},
    {"PublicKey", KIND_TEXT_OR_NULL, FIELD(public_key), 0, 0, NULL},
    {"RootHash", KIND_HASH_OR_NULL, FIELD(root_hash), 0, 0, NULL},
};
#undef FIELD

/* Nothing of it is used: there is no attestation that could release a secret. */
struct secret
{
    const char *id, *address, *local_path, *library, *version;
    bool verbose;
};

#define FIELD(member) offsetof(struct secret, member)
static const struct key secret_keys[] = {
    {"ID", KIND_TEXT, FIELD(id), 0, 0, NULL},
    {"SrsAddress", KIND_TEXT, FIELD(address), 0, 0, NULL},
    {"LocalPath", KIND_ABSOLUTE_PATH, FIELD(local_path), 0, 0, NULL},
    {"ClientLib", KIND_TEXT, FIELD(library), 0, 0, NULL},
    {"SrsApiVersion", KIND_TEXT_OR_NULL, FIELD(version), 0, 0, NULL},
    {"Verbose", KIND_FLAG, FIELD(verbose), 0, 0, NULL},
};
#undef FIELD

static int read_flag(struct myst_json *r, bool *value)
{
    struct myst_json_integer n;
    if (!myst_json_at_integer(r))
        return myst_json_bool(r, value);
    if (myst_json_integer(r, &n) != 0)
        return -1;
    *value = n.magnitude != 0;
    return n.huge || n.magnitude > INT64_MAX ? myst_json_fail(r, "expected true or false") : 0;
}

static int read_bounded(struct myst_json *r, uint64_t min, uint64_t max, uint64_t *value)
{
    struct myst_json_integer n;
    if (myst_json_integer(r, &n) != 0)
        return -1;
    if (n.huge || (n.negative && n.magnitude) || n.magnitude < min || n.magnitude > max)
        return myst_json_fail(r, "must lie between %llu and %llu", (unsigned long long)min, (unsigned long long)max);
    *value = n.magnitude;
    return 0;
}

static int read_page_offset(struct myst_json *r, uint64_t *value)
{
    if (read_bounded(r, 1, INT64_MAX, value) != 0)
        return -1;
    return *value % MYST_PAGE ? myst_json_fail(r, "must be a multiple of 4096") : 0;
}

static unsigned unit_shift(char unit)
{
    switch (unit | 0x20)
    {
    case 'k':
        return 10;
    case 'm':
        return 20;
    case 'g':
        return 30;
    default:
        return 0;
    }
}

/* Digits with at most one unit letter after them. */
static bool parse_size(const char *text, uint64_t *bytes)
{
    char *unit;
    errno = 0;
    *bytes = strtoull(text, &unit, 10);
    const unsigned shift = unit_shift(*unit);
    if (unit - text > MAX_SIZE_DIGITS)
        return false;
    if (*text < '0' || *text > '9' || errno != 0 || (*unit && (shift == 0 || unit[1])) || *bytes > UINT64_MAX >> shift)
        return false;
    *bytes <<= shift;
    return true;
}

static int read_size(struct myst_json *r, uint64_t *bytes)
{
    const char *text;
    if (myst_json_peek(r) != '"')
    {
        if (read_bounded(r, 0, MAX_SIZE, bytes) != 0)
            return -1;
    }
    else if (myst_json_string(r, &text) != 0)
        return -1;
    else if (!parse_size(text, bytes) || *bytes > MAX_SIZE)
        return myst_json_fail(r, "expected a size such as 67108864 or \"64m\"");
    *bytes = myst_page_up(*bytes);
    return 0;
}

static int read_version(struct myst_json *r, const char **version)
{
    if (myst_json_string(r, version) != 0)
        return -1;
    return strcmp(*version, "0.1") ? myst_json_fail(r, "expected \"0.1\"") : 0;
}

static int read_path(struct myst_json *r, const char **path)
{
    if (myst_json_string(r, path) != 0)
        return -1;
    return strlen(*path) >= PATH_MAX ? myst_json_fail(r, "the path is too long") : 0;
}

static int read_absolute_path(struct myst_json *r, const char **path)
{
    if (read_path(r, path) != 0)
        return -1;
    return **path == '/' ? 0 : myst_json_fail(r, "must begin with /");
}

static int read_file_path(struct myst_json *r, const char **path)
{
    if (read_absolute_path(r, path) != 0)
        return -1;
    const char *name = strrchr(*path, '/') + 1;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return myst_json_fail(r, "must end with the name of a file");
    return 0;
}

static int read_text(struct myst_json *r, const char **text)
{
    if (myst_json_string(r, text) != 0)
        return -1;
    return **text ? 0 : myst_json_fail(r, "must not be empty");
}

static int read_hash(struct myst_json *r, const char **hash)
{
    if (myst_json_string(r, hash) != 0)
        return -1;
    size_t count = 0;
    while (myst_hex_digit((*hash)[count]) >= 0)
        count++;
    return count == ROOT_HASH_DIGITS && !(*hash)[count] ? 0 : myst_json_fail(r, "expected 64 hexadecimal digits");
}

static int read_choice(struct myst_json *r, const char *const *choices, unsigned *index)
{
    const char *text;
    if (myst_json_string(r, &text) != 0)
        return -1;
    for (*index = 0; choices[*index]; ++*index)
        if (strcmp(choices[*index], text) == 0)
            return 0;
    return myst_json_fail(r, "unknown value \"%s\"", text);
}

static int append_item(struct myst_json *r, void **items, size_t count, size_t item_size)
{
    /* Doubling: grow when the count is a power of two. */
    if ((count & (count - 1)) == 0)
    {
        void *grown = realloc(*items, (count ? 2 * count : 1) * item_size);
        if (!grown)
            return myst_json_fail(r, "out of memory");
        *items = grown;
    }
    memset((char *)*items + count * item_size, 0, item_size);
    return 0;
}

static int read_strings(struct myst_json *r, struct myst_strings *strings)
{
    bool list = myst_json_accept(r, '[');
    int result = 0;
    if (!list && myst_json_peek(r) != '"')
        return myst_json_fail(r, "expected a list of strings");
    while (list ? myst_json_next(r, ']', strings->count, &result) : strings->count == 0)
    {
        if ((list && myst_json_count(r) != 0) ||
            append_item(r, (void **)&strings->items, strings->count, sizeof(char *)) != 0 ||
            myst_json_string(r, &strings->items[strings->count]) != 0)
            return -1;
        strings->count++;
    }
    return result;
}

/* What has no = sets nothing, and is passed on as it is. The runtime sets MYST_TARGET itself. */
static int check_variable(struct myst_json *r, const char *variable)
{
    return strncmp(variable, "MYST_TARGET=", 12) == 0 ? myst_json_fail(r, "MYST_TARGET is set by the runtime") : 0;
}

static int check_name(struct myst_json *r, const char *name)
{
    return strcmp(name, "MYST_TARGET") == 0 ? myst_json_fail(r, "MYST_TARGET is set by the runtime") : 0;
}

static int check_flag(struct myst_json *r, const char *flag)
{
    return strcmp(flag, "ro") != 0 && strcmp(flag, "rw") != 0 ? myst_json_fail(r, "expected ro or rw") : 0;
}

static int read_checked(struct myst_json *r, struct myst_strings *strings,
                        int (*check)(struct myst_json *, const char *))
{
    if (read_strings(r, strings) != 0)
        return -1;
    for (size_t i = 0; i < strings->count; i++)
        if (check(r, strings->items[i]) != 0)
            return -1;
    return 0;
}

static int read_secrets(struct myst_json *r, size_t *count);
static int read_mounts(struct myst_json *r, struct myst_config *config);

static int read_value(struct myst_json *r, const struct key *key, void *record)
{
    void *field = (char *)record + key->offset;
    switch (key->kind)
    {
    case KIND_BOOL:
        return myst_json_bool(r, field);
    case KIND_FLAG:
        return read_flag(r, field);
    case KIND_INTEGER:
        return read_bounded(r, key->min, key->max, field);
    case KIND_PAGE_OFFSET:
        return read_page_offset(r, field);
    case KIND_SIZE:
        return read_size(r, field);
    case KIND_TEXT:
        return read_text(r, field);
    case KIND_TEXT_OR_NULL:
        return myst_json_accept_word(r, "null") ? 0 : read_text(r, field);
    case KIND_HASH_OR_NULL:
        return myst_json_accept_word(r, "null") ? 0 : read_hash(r, field);
    case KIND_VERSION:
        return read_version(r, field);
    case KIND_ABSOLUTE_PATH:
        return read_absolute_path(r, field);
    case KIND_FILE_PATH:
        return read_file_path(r, field);
    case KIND_PATH:
        return read_path(r, field);
    case KIND_STRING:
        return myst_json_string(r, field);
    case KIND_STRINGS:
        return read_strings(r, field);
    case KIND_VARIABLES:
        return read_checked(r, field, check_variable);
    case KIND_NAMES:
        return read_checked(r, field, check_name);
    case KIND_FLAGS:
        return read_checked(r, field, check_flag);
    case KIND_CHOICE:
        return read_choice(r, key->choices, field);
    case KIND_MOUNTS:
        return read_mounts(r, record);
    case KIND_SECRETS:
        return read_secrets(r, field);
    }
    return myst_json_fail(r, "unknown kind");
}

static const struct key *find_key(const struct key *keys, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

/* The members of the object that was just opened, into `record`; `seen` gets a bit for each key. */
static int read_object(struct myst_json *r, const struct key *keys, size_t count, void *record, uint64_t *seen)
{
    const char *outer = r->key;
    int result;
    *seen = 0;
    for (size_t i = 0; myst_json_next(r, '}', i, &result); i++)
    {
        const char *name;
        char *text = r->text;
        if (myst_json_string(r, &name) != 0)
            return -1;
        const struct key *key = find_key(keys, count, name);
        if (!key)
            return myst_json_fail(r, "unknown key \"%.*s\"", MAX_NAME, name);
        r->text = text;
        r->key = key->name;
        uint64_t bit = 1ull << (key - keys);
        if (*seen & bit)
            return myst_json_fail(r, "given twice");
        *seen |= bit;
        if (myst_json_expect(r, ':', ": after the name") != 0 || myst_json_count(r) != 0 ||
            read_value(r, key, record) != 0)
            return -1;
        r->key = outer;
    }
    return result;
}

static int read_secrets(struct myst_json *r, size_t *count)
{
    struct secret secret;
    uint64_t seen;
    int result;
    if (myst_json_expect(r, '[', "a list of objects") != 0)
        return -1;
    for (*count = 0; myst_json_next(r, ']', *count, &result); ++*count)
    {
        memset(&secret, 0, sizeof secret);
        if (myst_json_count(r) != 0 || myst_json_expect(r, '{', "an object") != 0 ||
            read_object(r, secret_keys, MYST_COUNT(secret_keys), &secret, &seen) != 0)
            return -1;
        if ((seen & 15) != 15)
            return myst_json_fail(r, "each needs ID, SrsAddress, LocalPath and ClientLib");
    }
    return result;
}

/* The components of a target with a slash behind each. ".." takes the one before it away, and stays where there is
 * none: what leads above the root is another target. */
static void normalize(const char *path, char to[PATH_MAX + 1])
{
    size_t length = 0, kept = 0; /* kept: up to the last ".." that stayed */
    while (*(path += strspn(path, "/")))
    {
        const size_t size = strcspn(path, "/");
        const bool is_up = size == 2 && memcmp(path, "..", 2) == 0;
        if (is_up && length > kept)
            for (length--; length > kept && to[length - 1] != '/'; length--)
                continue;
        else if (!(size == 1 && *path == '.'))
        {
            memcpy(to + length, path, size);
            length += size;
            to[length++] = '/';
            kept = is_up ? length : kept;
        }
        path += size;
    }
    to[length] = 0;
}

static bool is_same_target(const char *a, const char *b)
{
    char own[PATH_MAX + 1], other[PATH_MAX + 1];
    normalize(a, own);
    normalize(b, other);
    return strcmp(own, other) == 0;
}

static int check_mount(struct myst_json *r, const struct myst_config *config, size_t number)
{
    const struct myst_mount *mount = &config->mounts[number];
    bool flags[2] = {false, false};
    for (size_t i = 0; i < mount->flags.count; i++)
        flags[mount->flags.items[i][1] == 'o'] = true;
    if (flags[0] && flags[1])
        return myst_json_fail(r, "%s: ro and rw exclude each other", mount->target);
    if (mount->type != MYST_MOUNT_EXT2 && (mount->public_key || mount->root_hash))
        return myst_json_fail(r, "%s: PublicKey and RootHash are for ext2 disks", mount->target);
    for (size_t i = 0; i < number; i++)
        if (is_same_target(config->mounts[i].target, mount->target))
            return myst_json_fail(r, "%s is the target of two", mount->target);
    return 0;
}

static int read_mounts(struct myst_json *r, struct myst_config *config)
{
    int result;
    uint64_t seen;
    if (myst_json_expect(r, '[', "a list of objects") != 0)
        return -1;
    while (myst_json_next(r, ']', config->mount_count, &result))
    {
        if (config->mount_count == MYST_MAX_MOUNTS)
            return myst_json_fail(r, "more than %d", MYST_MAX_MOUNTS);
        if (myst_json_count(r) != 0 ||
            append_item(r, (void **)&config->mounts, config->mount_count, sizeof(struct myst_mount)) != 0)
            return -1;
        struct myst_mount *mount = &config->mounts[config->mount_count++];
        if (myst_json_expect(r, '{', "an object") != 0 ||
            read_object(r, mount_keys, MYST_COUNT(mount_keys), mount, &seen) != 0)
            return -1;
        if (!(seen & 1) || !(seen & 2))
            return myst_json_fail(r, "each needs a Target and a Type");
        if (check_mount(r, config, config->mount_count - 1) != 0)
            return -1;
    }
    return result;
}

static uint64_t key_bit(const char *name)
{
    return 1ull << (find_key(config_keys, MYST_COUNT(config_keys), name) - config_keys);
}

static int read_document(struct myst_json *r, struct myst_config *config)
{
    uint64_t seen;
    if (myst_json_check_text(r) != 0 || myst_json_count(r) != 0 || myst_json_expect(r, '{', "{") != 0 ||
        read_object(r, config_keys, MYST_COUNT(config_keys), config, &seen) != 0)
        return -1;
    if (myst_json_peek(r) != 0 || r->at != r->end)
        return myst_json_fail(r, "something follows the closing }");
    if ((seen & key_bit("MemorySize")) && (seen & key_bit("UserMemSize")))
        return myst_json_fail(r, "UserMemSize: MemorySize is given as well");
    if (!config->application_path)
        return myst_json_fail(r, "ApplicationPath: missing");
    return 0;
}

int myst_config_read(const char *json, size_t size, struct myst_config *config, struct myst_error *error)
{
    struct myst_json r = {.start = json, .at = json, .end = json + size, .where = "configuration", .error = error};

    memset(config, 0, sizeof *config);
    if (size > MAX_TEXT)
        return myst_json_fail(&r, "the file is larger than %u bytes", MAX_TEXT);
    config->text = r.text = malloc(size + 1);
    if (!config->text)
        return myst_json_fail(&r, "out of memory");
    if (read_document(&r, config) != 0)
        return -1;
    if (config->memory_size == 0)
        config->memory_size = MYST_DEFAULT_MEMORY_SIZE;
    if (config->main_stack_size == 0)
        config->main_stack_size = MYST_DEFAULT_MAIN_STACK_SIZE;
    if (!config->current_working_directory)
        config->current_working_directory = "/";
    return 0;
}

void myst_config_free(struct myst_config *config)
{
    for (size_t i = 0; i < config->mount_count; i++)
        free(config->mounts[i].flags.items);
    free(config->mounts);
    free(config->application_parameters.items);
    free(config->environment_variables.items);
    free(config->host_environment_variables.items);
    free(config->text);
    memset(config, 0, sizeof *config);
}
