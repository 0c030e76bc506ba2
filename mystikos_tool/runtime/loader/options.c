#include "options.h"

#include "../common/hex.h"
#include "../common/sizes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

static const char prefix[] = "--myst-";

const char myst_options_help[] =
    "Options of the loader, before the application's arguments:\n"
    "  --myst-info        check the package; print its identity and sizes\n"
    "  --myst-verify      check the package\n"
    "  --myst-signer=HEX  refuse a package whose MRSIGNER is not HEX (64 digits)\n"
    "  --myst-help        print this\n"
    "  --myst-version     print the loader's version\n"
    "  --myst-mount=SOURCE=TARGET\n"
    "                     mount SOURCE at TARGET, which the configuration declares: a directory\n"
    "                     of the host (hostfs) or an archive in the root (ramfs)\n"
    "  --myst-rootfs=FILE the ext2 disk that the root is on, where the package has none in it;\n"
    "                     MYST_ROOTFS_PATH in the environment names it as well\n"
    "  --myst-no-isolation\n"
    "                     run without namespaces where the machine allows none\n"
    "  --myst-quiet       leave out the notes of what works here and not under Mystikos\n"
    "For debug enclaves only:\n"
    "  --myst-strace      tell which system calls are refused\n"
    "  --myst-shell       start /bin/sh instead of the application\n"
    "  --myst-linux       let the application have Linux as it is, within the sandbox\n"
    "  --myst-root=DIR    unpack the root into DIR, which is empty or not there, and keep it\n"
    "  --                 end these options: what follows goes to the application, whatever it is\n"
    "All other arguments go to the application. With MYST_OPTIONS=none in the environment none of\n"
    "these options is taken.\n";

static int read_signer(struct myst_options *options, const char *hex, struct myst_error *error)
{
    uint8_t signer[sizeof options->signer];
    if (strlen(hex) != 2 * sizeof signer)
        return myst_fail(error, "options: --myst-signer takes 64 hexadecimal digits");
    for (size_t i = 0; i < sizeof signer; i++)
    {
        const int high = myst_hex_digit(hex[2 * i]), low = myst_hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return myst_fail(error, "options: --myst-signer takes 64 hexadecimal digits");
        signer[i] = (uint8_t)(high << 4 | low);
    }
    if (options->has_signer && memcmp(options->signer, signer, sizeof signer) != 0)
        return myst_fail(error, "options: --myst-signer is given twice, and not the same");
    memcpy(options->signer, signer, sizeof signer);
    options->has_signer = 1;
    return 0;
}

/* Only the form is checked here; what it names, by the kernel. */
static int read_mount(struct myst_options *options, const char *mount, struct myst_error *error)
{
    const char *equals = strchr(mount, '=');
    /* A target is an absolute path, and a source may have a = in it. */
    while (equals && equals[1] != '/')
        equals = strchr(equals + 1, '=');
    if (!equals || equals == mount)
        return myst_fail(error, "options: --myst-mount takes SOURCE=TARGET, TARGET beginning with /");
    if (options->mount_count == MYST_HOST_MOUNTS)
        return myst_fail(error, "options: --myst-mount is given more than %d times", MYST_HOST_MOUNTS);
    options->mounts[options->mount_count++] = mount;
    return 0;
}

static int read_root(struct myst_options *options, const char *directory, struct myst_error *error)
{
    if (!*directory)
        return myst_fail(error, "options: --myst-root takes the name of a directory");
    if (options->root)
        return myst_fail(error, "options: --myst-root is given twice");
    options->root = directory;
    return 0;
}

static int read_rootfs(struct myst_options *options, const char *file, struct myst_error *error)
{
    if (!*file)
        return myst_fail(error, "options: --myst-rootfs takes the name of a file");
    if (options->rootfs)
        return myst_fail(error, "options: --myst-rootfs is given twice");
    options->rootfs = file;
    return 0;
}

/* The value of an option that has one, or NULL when `option` is another. */
static const char *value_of(const char *option, const char *name)
{
    const size_t length = strlen(name);
    return strncmp(option, name, length) == 0 && option[length] == '=' ? option + length + 1 : NULL;
}

static int read_action(struct myst_options *options, const char *option, enum myst_action action,
                       struct myst_error *error)
{
    if (options->action != MYST_ACTION_RUN && options->action != action)
        return myst_fail(error, "options: %s and an option before it exclude each other", option);
    options->action = action;
    return 0;
}

static int read_option(struct myst_options *options, const char *option, struct myst_error *error)
{
    static const struct
    {
        const char *name;
        enum myst_action action;
    } actions[] = {
        {"--myst-info", MYST_ACTION_INFO},
        {"--myst-verify", MYST_ACTION_VERIFY},
        {"--myst-help", MYST_ACTION_HELP},
        {"--myst-version", MYST_ACTION_VERSION},
    };
    static const struct
    {
        const char *name;
        uint64_t flag;
    } flags[] = {
        {"--myst-no-isolation", MYST_HOST_NO_ISOLATION},
        {"--myst-strace", MYST_HOST_TRACE},
        {"--myst-shell", MYST_HOST_SHELL},
        {"--myst-quiet", MYST_HOST_QUIET},
        {"--myst-linux", MYST_HOST_LINUX},
    };
    static const struct
    {
        const char *name;
        int (*read)(struct myst_options *options, const char *value, struct myst_error *error);
    } values[] = {
        {"--myst-signer", read_signer},
        {"--myst-mount", read_mount},
        {"--myst-root", read_root},
        {"--myst-rootfs", read_rootfs},
    };
    for (size_t i = 0; i < MYST_COUNT(actions); i++)
        if (strcmp(option, actions[i].name) == 0)
            return read_action(options, option, actions[i].action, error);
    for (size_t i = 0; i < MYST_COUNT(flags); i++)
    {
        if (strcmp(option, flags[i].name) != 0)
            continue;
        options->flags |= flags[i].flag;
        return 0;
    }
    for (size_t i = 0; i < MYST_COUNT(values); i++)
    {
        const char *value = value_of(option, values[i].name);
        if (value)
            return values[i].read(options, value, error);
    }
    return myst_fail(error,
                     "options: %.64s is unknown; there are --myst-info, --myst-verify, --myst-signer=HEX, "
                     "--myst-help, --myst-version, --myst-mount=SOURCE=TARGET, --myst-no-isolation, "
                     "--myst-rootfs=FILE, --myst-quiet, --myst-strace, --myst-shell, --myst-linux and --myst-root=DIR",
                     option);
}

static int check_for_contradiction(const struct myst_options *options, struct myst_error *error)
{
    const int runs = options->flags || options->mount_count || options->root || options->rootfs;
    if (options->action != MYST_ACTION_RUN && runs)
        return myst_fail(error, "options: those that change how the application runs exclude those that do not run it");
    if (runs && getauxval(AT_SECURE))
        return myst_fail(error, "options: those that change how the application runs are refused, since this file is "
                                "set-id or has capabilities");
    return 0;
}

/* The environment of a deployment forbids options that reach the command line from elsewhere. */
static int check_allowed(const char *option, struct myst_error *error)
{
    const char *allowed = getenv("MYST_OPTIONS");
    if (allowed && strcmp(allowed, "none") != 0)
        return myst_fail(error, "MYST_OPTIONS: is \"%.64s\"; none is all that it can be", allowed);
    if (allowed && option)
        return myst_fail(error, "options: %.64s is refused, since MYST_OPTIONS is none", option);
    return 0;
}

int myst_options_read(struct myst_options *options, int argc, char *const *argv, struct myst_error *error)
{
    memset(options, 0, sizeof *options);
    if (check_allowed(NULL, error) != 0)
        return -1;
    for (int i = 1; i < argc && strncmp(argv[i], prefix, sizeof prefix - 1) == 0; i++)
    {
        if (check_allowed(argv[i], error) != 0 || read_option(options, argv[i], error) != 0)
            return -1;
        options->count++;
    }
    if (options->count + 1 < argc && strcmp(argv[options->count + 1], "--") == 0)
        options->count++;
    /* A set-id program reads no file for a caller who could not. */
    const char *path = getauxval(AT_SECURE) ? NULL : getenv("MYST_ROOTFS_PATH");
    options->rootfs_path = path && *path ? path : NULL;
    return check_for_contradiction(options, error);
}
