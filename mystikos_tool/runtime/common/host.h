/* What the loader gives the enclave image at its entry point, as its only argument. None of it is
 * measured. */
#ifndef MYST_HOST_H
#define MYST_HOST_H

#include <stdint.h>

struct myst_host
{
    const char *name; /* of the package, as messages begin: "<name>: mystikos: " */
    int argc;         /* without the loader's own options */
    char **argv;
    char **envp;
    const void *auxv; /* that the process was started with */
    uint64_t flags;   /* MYST_HOST_... */
};

/* The exit status of whatever fails before the application runs. */
#define MYST_EXIT_REFUSED 125

#endif
