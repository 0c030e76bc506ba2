/* The application's arguments and environment: what the configuration fixes, and what it lets through
 * from the host. */
#ifndef MYST_COMMAND_H
#define MYST_COMMAND_H

#include "../common/config_reader.h"
#include "../common/handoff.h"

/* argv[0] is ApplicationPath. Warns when the host's arguments are not wanted. */
char **myst_arguments(const struct myst_config *config, const struct myst_handoff *handoff);

/* Of a shell in place of the application: all of the host's. */
char **myst_shell_arguments(const struct myst_handoff *handoff);

/* EnvironmentVariables, then the HostEnvironmentVariables that the host has and the configuration does not set
 * itself, then MYST_TARGET. */
char **myst_environment(const struct myst_config *config, const struct myst_handoff *handoff);

/* The "NAME=VALUE" of a list that ends with NULL, or NULL. */
char *myst_find_variable(char *const *list, const char *name);

/* Wipes the arguments that the package was started with from where /proc shows them. The results of the functions
 * above stay valid; handoff->host_argv does not. */
void myst_hide_host_arguments(const struct myst_handoff *handoff);

#endif
