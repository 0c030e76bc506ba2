/* Files of the host that the application reaches: what it was given as descriptors 0 to 2, with which it may do what
 * the descriptor can and no more, and what lies in mounts, where it leaves no set-id file behind. */
#ifndef MYST_HOST_FILES_H
#define MYST_HOST_FILES_H

#include "call.h"

/* Serves ftruncate, F_SETFL, chmod, utimensat and their kind: the result of the call, a negative errno, or
 * MYST_CONTINUE. */
int64_t myst_serve_host_files(const struct myst_call *call);

/* True of a descriptor of this process for a file of the host that the caller of the package has opened to be appended
 * to: its content stays. */
bool myst_keeps_content(const struct myst_call *call, int file);

/* As chmod, of a file that need not be open to be read or written; 0, or -1 with errno. */
int myst_set_mode(int file, unsigned mode);

/* False for a mode that a file or directory of a mount must not get; `parent` is where it is made, or itself. */
bool myst_may_have_mode(int parent, unsigned mode);

#endif
