#include "command.h"

#include "../common/error.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The configuration's strings are not copied, and nobody writes to them. */
static char **make_list(size_t room)
{
    return myst_allocated(calloc(room + 1, sizeof(char *)));
}

/* The host's strings lie where the system shows the process's arguments from, and are wiped there. */
static char *copy(const char *string)
{
    return myst_allocated(strdup(string));
}

/* argv[0], and then what the host gave. */
static char **from_command_line(const char *program, const struct myst_handoff *handoff)
{
    size_t count = handoff->host.argc > 1 ? (size_t)handoff->host.argc - 1 : 0;
    char **list = make_list(1 + count);
    list[0] = (char *)program;
    for (size_t i = 1; i <= count; i++)
        list[i] = copy(handoff->host.argv[i]);
    return list;
}

char **myst_shell_arguments(const struct myst_handoff *handoff)
{
    return from_command_line("sh", handoff);
}

char **myst_arguments(const struct myst_config *config, const struct myst_handoff *handoff)
{
    const struct myst_strings *own = &config->application_parameters;
    if (config->host_application_parameters)
        return from_command_line(config->application_path, handoff);
    if (handoff->host.argc > 1)
        myst_warn("the arguments are ignored: HostApplicationParameters is not set in the configuration");
    char **list = make_list(1 + own->count);
    list[0] = (char *)config->application_path;
    if (own->count > 0)
        memcpy(list + 1, own->items, own->count * sizeof *list);
    return list;
}

static bool has_name(const char *variable, const char *name, size_t length)
{
    return strncmp(variable, name, length) == 0 && variable[length] == '=';
}

char *myst_find_variable(char *const *list, const char *name)
{
    for (; *list; list++)
        if (has_name(*list, name, strlen(name)))
            return *list;
    return NULL;
}

static bool is_wanted(const struct myst_strings *wanted, const char *variable)
{
    for (size_t i = 0; i < wanted->count; i++)
        if (has_name(variable, wanted->items[i], strlen(wanted->items[i])))
            return true;
    return false;
}

static size_t count(char *const *list)
{
    size_t number = 0;
    while (list[number])
        number++;
    return number;
}

char **myst_environment(const struct myst_config *config, const struct myst_handoff *handoff)
{
    const struct myst_strings *own = &config->environment_variables;
    const struct myst_strings *wanted = &config->host_environment_variables;
    char **list = make_list(own->count + count(handoff->host.envp) + 1), **end = list;

    for (size_t i = 0; i < own->count; i++)
        *end++ = (char *)own->items[i];
    /* In the host's order, and behind a variable of the same name. */
    for (char *const *variable = handoff->host.envp; *variable; variable++)
        if (is_wanted(wanted, *variable) && !has_name(*variable, "MYST_TARGET", 11))
            *end++ = copy(*variable);
    *end = (char *)"MYST_TARGET=linux";
    return list;
}

void myst_hide_host_arguments(const struct myst_handoff *handoff)
{
    if (!handoff->host.arguments_end)
        return;
    char *start = handoff->host.argv[0];
    memset(start, 0, (size_t)(handoff->host.arguments_end - start));
}
