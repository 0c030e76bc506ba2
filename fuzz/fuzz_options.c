/* The loader's options: the input is the arguments, each ended by a zero byte. */
#include "fuzz.h"
#include "loader/options.h"

#include <string.h>

#define MAX_ARGUMENTS 64

static void check(const struct myst_options *options, int argc, char *const *argv)
{
    PROMISE(options->count >= 0 && options->count < argc);
    for (int i = 1; i < options->count; i++)
        PROMISE(strncmp(argv[i], "--myst-", 7) == 0);
    for (size_t i = 0; i < options->mount_count; i++)
        PROMISE(strstr(options->mounts[i], "=/") > options->mounts[i]);
    PROMISE(options->action == MYST_ACTION_RUN || (!options->flags && !options->mount_count && !options->root));
    PROMISE(!options->root || *options->root);
    /* What follows is the application's: another option of the loader only behind "--". */
    if (options->count + 1 < argc && strncmp(argv[options->count + 1], "--myst-", 7) == 0)
        PROMISE(options->count > 0 && strcmp(argv[options->count], "--") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *argv[MAX_ARGUMENTS + 1] = {(char *)"package"};
    struct myst_options options;
    struct myst_error error = {""};
    int argc = 1;
    memcpy(text, data, size);
    text[size] = 0;
    for (char *at = text; at < text + size && argc < MAX_ARGUMENTS; at += strlen(at) + 1)
        argv[argc++] = at;
    if (myst_options_read(&options, argc, argv, &error) == 0)
        check(&options, argc, argv);
    else
        PROMISE(error.text[0] && !strchr(error.text, '\n'));
    free(text);
    return 0;
}
