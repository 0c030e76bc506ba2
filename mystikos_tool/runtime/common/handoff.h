/* What the enclave image hands to the kernel: where the measured regions lie in memory, and what
 * the host gave. Found by the kernel in its auxiliary vector under AT_MYST_HANDOFF. */
#ifndef MYST_HANDOFF_H
#define MYST_HANDOFF_H

#include <stdint.h>

/* Auxiliary vector types of our own, far above those that Linux uses. */
#define AT_MYST_HANDOFF 0x4d595354

struct myst_span
{
    const void *data;
    uint64_t size; /* bytes; not rounded to a page */
};

struct myst_handoff
{
    /* Measured. */
    struct myst_span enclave;     /* all of it that is in use: nothing is mapped behind */
    struct myst_span kernel, crt; /* ELF images in place, as loaded */
    struct myst_span rootfs, pubkeys, roothashes, config;
    uint64_t debug; /* 1 when SIGSTRUCT's attributes have DEBUG */

    /* From the host, not measured: never trusted to change what the configuration fixes. */
    const char *host_name; /* of the package, as messages begin: "<host_name>: mystikos: " */
    int host_argc;         /* without the loader's own --myst- options */
    char **host_argv;
    char **host_envp;
    uint64_t host_flags;            /* MYST_HOST_... */
    const char *const *host_mounts; /* as in struct myst_host */
    uint64_t host_mount_count;
    const char *host_root;
    const char *host_arguments_end;
};

#endif
