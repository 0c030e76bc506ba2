/* Runs without isolation (--myst-no-isolation): where a machine, or a container, allows no namespaces. */
#ifndef MYST_NO_ISOLATION_H
#define MYST_NO_ISOLATION_H

#include "../common/application.h"
#include "../common/config_reader.h"
#include "../common/handoff.h"

/* Warns, and refuses what the configuration demands and isolation alone can give. */
void myst_no_isolation_check(const struct myst_config *config);

/* Makes a directory for the root, the one of --myst-root if it is given, and enters it. Returns its absolute path,
 * which stays allocated. */
const char *myst_no_isolation_make_root(const struct myst_handoff *handoff);

/* Removes what is at `directory`, with everything below it. */
void myst_no_isolation_remove_root(const char *directory);

/* Makes the working directory the root where the system lets this process, and otherwise changes the command so that
 * the application runs where it lies, with the dynamic linker and the libraries that lie there. Then enters
 * CurrentWorkingDirectory. */
void myst_no_isolation_enter_root(const char *directory, const struct myst_config *config,
                                  struct myst_application *application);

#endif
