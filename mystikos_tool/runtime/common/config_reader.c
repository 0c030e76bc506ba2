#include "config_reader.h"

#include "hex.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 32
#define MAX_NAME 64 /* longer than any key */

struct reader
{
    const char *start, *at, *end;
    char *text;      /* where the next decoded string goes */
    const char *key; /* being read, for messages; NULL outside of a member */
    char *error;
    size_t error_size;
};

enum kind
{
    KIND_BOOL,        /* true or false */
    KIND_FLAG,        /* the same, or an integer: 0 is false */
    KIND_INTEGER,     /* min..max */
    KIND_PAGE_OFFSET, /* integer > 0, multiple of a page */
    KIND_SIZE,        /* bytes, or a string with k, m or g */
    KIND_STRING_OR_NULL,
    KIND_VERSION,
    KIND_ABSOLUTE_PATH,
    KIND_FILE_PATH, /* absolute, with a last component */
    KIND_HOSTNAME,
    KIND_STRINGS, /* a list, or one string for a list of one */
    KIND_CHOICE,  /* one of `choices`, stored as its index */
    KIND_MOUNTS,
    KIND_SECRETS, /* only counted */
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
    {"EnvironmentVariables", KIND_STRINGS, FIELD(environment_variables), 0, 0, NULL},
    {"HostEnvironmentVariables", KIND_STRINGS, FIELD(host_environment_variables), 0, 0, NULL},
    {"CurrentWorkingDirectory", KIND_ABSOLUTE_PATH, FIELD(current_working_directory), 0, 0, NULL},
    {"Hostname", KIND_HOSTNAME, FIELD(hostname), 0, 0, NULL},
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
    {"Flags", KIND_STRINGS, FIELD(flags), 0, 0, NULL},
    {"PublicKey", KIND_STRING_OR_NULL, FIELD(public_key), 0, 0, NULL},
    {"RootHash", KIND_STRING_OR_NULL, FIELD(root_hash), 0, 0, NULL},
};
#undef FIELD

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* A name or value that is quoted in a message must not break its line or drive a terminal. */
static void replace_controls(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

/* Writes "line N: Key: what is wrong" and returns -1. */
__attribute__((format(printf, 2, 3))) static int fail(struct reader *r, const char *format, ...)
{
    unsigned long line = 1;
    for (const char *p = r->start; p < r->at; p++)
        line += *p == '\n';

    int used = snprintf(r->error, r->error_size, "line %lu: %s%s", line, r->key ? r->key : "", r->key ? ": " : "");
    if (used < 0 || (size_t)used >= r->error_size)
        return -1;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->error + used, r->error_size - (size_t)used, format, arguments);
    va_end(arguments);
    replace_controls(r->error);
    return -1;
}

/* Steps over white space and comments to the next token; 0 at the end of the input. */
static char peek(struct reader *r)
{
    while (r->at < r->end)
    {
        if (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')
            r->at++;
        else if (r->end - r->at >= 2 && r->at[0] == '/' && r->at[1] == '/')
            while (r->at < r->end && *r->at != '\n' && *r->at != '\r')
                r->at++;
        else
            return *r->at;
    }
    return 0;
}

static bool accept(struct reader *r, char token)
{
    if (peek(r) != token)
        return false;
    r->at++;
    return true;
}

static bool accept_word(struct reader *r, const char *word)
{
    size_t length = strlen(word);
    peek(r);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0)
        return false;
    r->at += length;
    return true;
}

static int expect(struct reader *r, char token, const char *what)
{
    return accept(r, token) ? 0 : fail(r, "expected %s", what);
}

/* The four digits after \u. */
static int read_code_unit(struct reader *r, uint32_t *unit)
{
    if (r->end - r->at < 4)
        return fail(r, "\\u needs four hexadecimal digits");
    *unit = 0;
    for (int i = 0; i < 4; i++, r->at++)
    {
        int digit = myst_hex_digit(*r->at);
        if (digit < 0)
            return fail(r, "\\u needs four hexadecimal digits");
        *unit = *unit << 4 | (uint32_t)digit;
    }
    return 0;
}

static int read_code_point(struct reader *r, uint32_t *point)
{
    uint32_t low;
    if (read_code_unit(r, point) != 0)
        return -1;
    if (*point < 0xd800 || *point > 0xdfff)
        return 0;
    if (*point > 0xdbff || !(r->end - r->at >= 2 && r->at[0] == '\\' && r->at[1] == 'u'))
        return fail(r, "half of a surrogate pair");
    r->at += 2;
    if (read_code_unit(r, &low) != 0)
        return -1;
    if (low < 0xdc00 || low > 0xdfff)
        return fail(r, "half of a surrogate pair");
    *point = 0x10000 + ((*point - 0xd800) << 10) + (low - 0xdc00);
    return 0;
}

/* At most as many bytes as the escape sequence had. */
static char *put_utf8(char *out, uint32_t point)
{
    if (point < 0x80)
    {
        *out++ = (char)point;
        return out;
    }
    int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (char)(lead[more] | point >> (6 * more));
    while (more-- > 0)
        *out++ = (char)(0x80 | (point >> (6 * more) & 0x3f));
    return out;
}

static int read_escape(struct reader *r, uint32_t *point)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end)
        return fail(r, "a string is not closed");
    char c = *r->at++;
    if (c == 'u')
        return read_code_point(r, point);
    const char *name = c ? strchr(names, c) : NULL;
    if (!name)
        return fail(r, "unknown escape sequence in a string");
    *point = (unsigned char)values[name - names];
    return 0;
}

/* Decodes the string at the cursor into r->text. The text has room: a string of n bytes in the file,
 * quotes included, takes at most n - 1 with its NUL. */
static int read_string(struct reader *r, const char **string)
{
    char *out = r->text;
    if (!accept(r, '"'))
        return fail(r, "expected a string");
    *string = out;
    for (;;)
    {
        if (r->at == r->end || *r->at == '\n')
            return fail(r, "a string is not closed");
        char c = *r->at++;
        if (c == '"')
            break;
        uint32_t point = 1;
        if (c == '\\' && read_escape(r, &point) != 0)
            return -1;
        if (c == 0 || point == 0)
            return fail(r, "a string has a NUL in it");
        if (c == '\\')
            out = put_utf8(out, point);
        else
            *out++ = c;
    }
    *out++ = 0;
    r->text = out;
    return 0;
}

struct integer
{
    bool negative, huge; /* huge: the magnitude does not fit */
    uint64_t magnitude;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void add_digit(struct integer *n, char digit)
{
    if (__builtin_mul_overflow(n->magnitude, 10, &n->magnitude) ||
        __builtin_add_overflow(n->magnitude, (uint64_t)(digit - '0'), &n->magnitude))
        n->huge = true;
}

static int read_integer(struct reader *r, struct integer *n)
{
    memset(n, 0, sizeof *n);
    n->negative = accept(r, '-');
    if (r->at == r->end || !is_digit(*r->at))
        return fail(r, "expected a whole number");
    if (*r->at == '0' && r->end - r->at >= 2 && is_digit(r->at[1]))
        return fail(r, "a number must not begin with 0");
    while (r->at < r->end && is_digit(*r->at))
        add_digit(n, *r->at++);
    if (r->at < r->end && (*r->at == '.' || *r->at == 'e' || *r->at == 'E'))
        return fail(r, "expected a whole number");
    return 0;
}

static bool at_integer(struct reader *r)
{
    char c = peek(r);
    return c == '-' || is_digit(c);
}

static int read_bool(struct reader *r, bool *value)
{
    if (!(*value = accept_word(r, "true")) && !accept_word(r, "false"))
        return fail(r, "expected true or false");
    return 0;
}

static int read_flag(struct reader *r, bool *value)
{
    struct integer n;
    if (!at_integer(r))
        return read_bool(r, value);
    if (read_integer(r, &n) != 0)
        return -1;
    *value = n.huge || n.magnitude != 0;
    return 0;
}

static int read_bounded(struct reader *r, uint64_t min, uint64_t max, uint64_t *value)
{
    struct integer n;
    if (read_integer(r, &n) != 0)
        return -1;
    if (n.huge || (n.negative && n.magnitude) || n.magnitude < min || n.magnitude > max)
        return fail(r, "must lie between %llu and %llu", (unsigned long long)min, (unsigned long long)max);
    *value = n.magnitude;
    return 0;
}

static int read_page_offset(struct reader *r, uint64_t *value)
{
    if (read_bounded(r, 1, INT64_MAX, value) != 0)
        return -1;
    return *value % MYST_PAGE_SIZE ? fail(r, "must be a multiple of 4096") : 0;
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
    struct integer n = {0};
    if (!is_digit(*text))
        return false;
    while (is_digit(*text))
        add_digit(&n, *text++);
    unsigned shift = unit_shift(*text);
    if (n.huge || (*text && (shift == 0 || text[1])) || n.magnitude > UINT64_MAX >> shift)
        return false;
    *bytes = n.magnitude << shift;
    return true;
}

static int read_size(struct reader *r, uint64_t *bytes)
{
    const char *text;
    if (peek(r) != '"')
    {
        if (read_bounded(r, 0, INT64_MAX, bytes) != 0)
            return -1;
    }
    else if (read_string(r, &text) != 0)
        return -1;
    else if (!parse_size(text, bytes) || *bytes > INT64_MAX)
        return fail(r, "expected a size such as 67108864 or \"64m\"");
    *bytes = (*bytes + MYST_PAGE_SIZE - 1) & ~(MYST_PAGE_SIZE - 1);
    return 0;
}

static int read_version(struct reader *r, const char **version)
{
    if (read_string(r, version) != 0)
        return -1;
    return strcmp(*version, "0.1") ? fail(r, "expected \"0.1\"") : 0;
}

static int read_absolute_path(struct reader *r, const char **path)
{
    if (read_string(r, path) != 0)
        return -1;
    if (**path != '/')
        return fail(r, "must begin with /");
    return strlen(*path) >= PATH_MAX ? fail(r, "the path is too long") : 0;
}

static int read_file_path(struct reader *r, const char **path)
{
    if (read_absolute_path(r, path) != 0)
        return -1;
    return (*path)[strlen(*path) - 1] == '/' ? fail(r, "must end with the name of a file") : 0;
}

static int read_hostname(struct reader *r, const char **name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
    if (read_string(r, name) != 0)
        return -1;
    size_t length = strlen(*name);
    if (length < 1 || length > 64 || strspn(*name, allowed) != length)
        return fail(r, "must be 1 to 64 characters of a-z A-Z 0-9 - .");
    return 0;
}

static int read_choice(struct reader *r, const char *const *choices, unsigned *index)
{
    const char *text;
    if (read_string(r, &text) != 0)
        return -1;
    for (*index = 0; choices[*index]; ++*index)
        if (strcmp(choices[*index], text) == 0)
            return 0;
    return fail(r, "unknown value \"%s\"", text);
}

/* True when another item follows, false after the closing bracket or on an error, told apart by *result. */
static bool next_item(struct reader *r, char close, size_t index, int *result)
{
    *result = 0;
    if (accept(r, close))
        return false;
    if (index == 0)
        return true;
    if (accept(r, ','))
        return !accept(r, close);
    *result = fail(r, "expected , or %c", close);
    return false;
}

static int append_item(struct reader *r, void **items, size_t count, size_t item_size)
{
    /* Doubling: grow when the count is a power of two. */
    if ((count & (count - 1)) == 0)
    {
        void *grown = realloc(*items, (count ? 2 * count : 1) * item_size);
        if (!grown)
            return fail(r, "out of memory");
        *items = grown;
    }
    memset((char *)*items + count * item_size, 0, item_size);
    return 0;
}

static int read_strings(struct reader *r, struct myst_strings *strings)
{
    bool list = accept(r, '[');
    int result = 0;
    if (!list && peek(r) != '"')
        return fail(r, "expected a list of strings");
    while (list ? next_item(r, ']', strings->count, &result) : strings->count == 0)
    {
        if (append_item(r, (void **)&strings->items, strings->count, sizeof(char *)) != 0 ||
            read_string(r, &strings->items[strings->count]) != 0)
            return -1;
        strings->count++;
    }
    return result;
}

/* A string or a number that nothing wants; its text is given back at once. */
static int skip_scalar(struct reader *r)
{
    struct integer n;
    const char *string;
    char *text = r->text;
    if (peek(r) == '"')
    {
        int result = read_string(r, &string);
        r->text = text;
        return result;
    }
    if (accept_word(r, "true") || accept_word(r, "false") || accept_word(r, "null"))
        return 0;
    return at_integer(r) ? read_integer(r, &n) : fail(r, "expected a value");
}

/* Steps over the members of the list or object that was just opened. Not recursive: `closers` remembers
 * what is open. */
static int skip_members(struct reader *r, char close)
{
    char closers[MAX_DEPTH];
    size_t depth = 0;
    bool first = true;
    int result;

    closers[depth++] = close;
    while (depth > 0)
    {
        if (!next_item(r, closers[depth - 1], first ? 0 : 1, &result))
        {
            if (result != 0)
                return result;
            depth--;
            first = false;
            continue;
        }
        first = false;
        if (closers[depth - 1] == '}' && (peek(r) != '"' || skip_scalar(r) != 0 || expect(r, ':', ":") != 0))
            return fail(r, "expected a name and a value");
        if (peek(r) != '[' && peek(r) != '{')
        {
            if (skip_scalar(r) != 0)
                return -1;
            continue;
        }
        if (depth == MAX_DEPTH)
            return fail(r, "nested too deeply");
        closers[depth++] = accept(r, '[') ? ']' : (r->at++, '}');
        first = true;
    }
    return 0;
}

static int read_secrets(struct reader *r, size_t *count)
{
    int result;
    if (expect(r, '[', "a list of objects") != 0)
        return -1;
    for (*count = 0; next_item(r, ']', *count, &result); ++*count)
        if (expect(r, '{', "an object") != 0 || skip_members(r, '}') != 0)
            return -1;
    return result;
}

static int read_mounts(struct reader *r, struct myst_config *config);

static int read_value(struct reader *r, const struct key *key, void *record)
{
    void *field = (char *)record + key->offset;
    switch (key->kind)
    {
    case KIND_BOOL:
        return read_bool(r, field);
    case KIND_FLAG:
        return read_flag(r, field);
    case KIND_INTEGER:
        return read_bounded(r, key->min, key->max, field);
    case KIND_PAGE_OFFSET:
        return read_page_offset(r, field);
    case KIND_SIZE:
        return read_size(r, field);
    case KIND_STRING_OR_NULL:
        return accept_word(r, "null") ? 0 : read_string(r, field);
    case KIND_VERSION:
        return read_version(r, field);
    case KIND_ABSOLUTE_PATH:
        return read_absolute_path(r, field);
    case KIND_FILE_PATH:
        return read_file_path(r, field);
    case KIND_HOSTNAME:
        return read_hostname(r, field);
    case KIND_STRINGS:
        return read_strings(r, field);
    case KIND_CHOICE:
        return read_choice(r, key->choices, field);
    case KIND_MOUNTS:
        return read_mounts(r, record);
    case KIND_SECRETS:
        return read_secrets(r, field);
    }
    return fail(r, "unknown kind");
}

static const struct key *find_key(const struct key *keys, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

/* The members of the object that was just opened, into `record`; `seen` gets a bit for each key. */
static int read_object(struct reader *r, const struct key *keys, size_t count, void *record, uint64_t *seen)
{
    const char *outer = r->key;
    int result;
    *seen = 0;
    for (size_t i = 0; next_item(r, '}', i, &result); i++)
    {
        const char *name;
        char *text = r->text;
        if (read_string(r, &name) != 0)
            return -1;
        const struct key *key = find_key(keys, count, name);
        if (!key)
            return fail(r, "unknown key \"%.*s\"", MAX_NAME, name);
        r->text = text;
        r->key = key->name;
        uint64_t bit = 1ull << (key - keys);
        if (*seen & bit)
            return fail(r, "given twice");
        *seen |= bit;
        if (expect(r, ':', ": after the name") != 0 || read_value(r, key, record) != 0)
            return -1;
        r->key = outer;
    }
    return result;
}

static int read_mounts(struct reader *r, struct myst_config *config)
{
    int result;
    uint64_t seen;
    if (expect(r, '[', "a list of objects") != 0)
        return -1;
    while (next_item(r, ']', config->mount_count, &result))
    {
        if (append_item(r, (void **)&config->mounts, config->mount_count, sizeof(struct myst_mount)) != 0)
            return -1;
        struct myst_mount *mount = &config->mounts[config->mount_count++];
        if (expect(r, '{', "an object") != 0 || read_object(r, mount_keys, COUNT(mount_keys), mount, &seen) != 0)
            return -1;
        if (!(seen & 1) || !(seen & 2))
            return fail(r, "each needs a Target and a Type");
    }
    return result;
}

static uint64_t key_bit(const char *name)
{
    return 1ull << (find_key(config_keys, COUNT(config_keys), name) - config_keys);
}

/* The runtime sets MYST_TARGET itself. */
static int check_environment(struct reader *r, const struct myst_strings *variables)
{
    for (size_t i = 0; i < variables->count; i++)
        if (strncmp(variables->items[i], "MYST_TARGET=", 12) == 0)
            return fail(r, "EnvironmentVariables: MYST_TARGET is set by the runtime");
    return 0;
}

static int read_document(struct reader *r, struct myst_config *config)
{
    uint64_t seen;
    if (expect(r, '{', "{") != 0 || read_object(r, config_keys, COUNT(config_keys), config, &seen) != 0)
        return -1;
    if (peek(r) != 0 || r->at != r->end)
        return fail(r, "something follows the closing }");
    if ((seen & key_bit("MemorySize")) && (seen & key_bit("UserMemSize")))
        return fail(r, "UserMemSize: MemorySize is given as well");
    if (!config->application_path)
        return fail(r, "ApplicationPath: missing");
    return check_environment(r, &config->environment_variables);
}

int myst_config_read(const char *json, size_t size, struct myst_config *config, char *error, size_t error_size)
{
    struct reader r = {.start = json, .at = json, .end = json + size, .error = error, .error_size = error_size};

    memset(config, 0, sizeof *config);
    config->text = r.text = malloc(size + 1);
    if (!config->text)
        return fail(&r, "out of memory");
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

int myst_config_memory_size(const char *json, size_t size, uint64_t *bytes, char *error, size_t error_size)
{
    struct myst_config config;
    int result = myst_config_read(json, size, &config, error, error_size);
    *bytes = config.memory_size;
    myst_config_free(&config);
    return result;
}
