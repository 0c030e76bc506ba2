#include "options.h"

#include <string.h>

static const char prefix[] = "--myst-";

const char myst_options_help[] =
    "Options of the loader, before the application's arguments:\n"
    "  --myst-info        check the package; print its identity and sizes\n"
    "  --myst-verify      check the package\n"
    "  --myst-signer=HEX  refuse a package whose MRSIGNER is not HEX (64 digits)\n"
    "  --myst-help        print this\n"
    "  --myst-version     print the loader's version\n"
    "All other arguments go to the application.\n";

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static int read_signer(struct myst_options *options, const char *hex, struct myst_error *error)
{
    uint8_t signer[sizeof options->signer];
    if (strlen(hex) != 2 * sizeof signer)
        return myst_fail(error, "options: --myst-signer takes 64 hexadecimal digits");
    for (size_t i = 0; i < sizeof signer; i++)
    {
        const int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
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
    static const char signer[] = "--myst-signer=";
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
    {
        if (strcmp(option, actions[i].name) != 0)
            continue;
        if (options->action != MYST_ACTION_RUN && options->action != actions[i].action)
            return myst_fail(error, "options: %s and an option before it exclude each other", option);
        options->action = actions[i].action;
        return 0;
    }
    if (strncmp(option, signer, sizeof signer - 1) == 0)
        return read_signer(options, option + sizeof signer - 1, error);
    return myst_fail(error, "options: %.64s is unknown; there are --myst-info, --myst-verify, --myst-signer=HEX, "
                            "--myst-help and --myst-version", option);
}

int myst_options_read(struct myst_options *options, int argc, char *const *argv, struct myst_error *error)
{
    memset(options, 0, sizeof *options);
    for (int i = 1; i < argc && strncmp(argv[i], prefix, sizeof prefix - 1) == 0; i++)
    {
        if (read_option(options, argv[i], error) != 0)
            return -1;
        options->count++;
    }
    return 0;
}
