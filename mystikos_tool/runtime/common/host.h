/* What the loader gives the enclave image at its entry point, as its only argument. None of it is
 * measured. */
#ifndef MYST_HOST_H
#define MYST_HOST_H

#include <stdint.h>

/* What the loader's options ask for. */
#define MYST_HOST_NO_ISOLATION 1ull
#define MYST_HOST_TRACE 2ull
#define MYST_HOST_SHELL 4ull
#define MYST_HOST_QUIET 8ull
#define MYST_HOST_LINUX 16ull

#define MYST_HOST_MOUNTS 32

struct myst_host
{
    const char *name; /* of the package, as messages begin: "<name>: mystikos: " */
    int argc;         /* without the loader's own options */
    char **argv;
    char **envp;
    const void *auxv;          /* that the process was started with */
    uint64_t flags;            /* MYST_HOST_... */
    const char *const *mounts; /* "SOURCE=TARGET" each, TARGET from the first "=/" on */
    uint64_t mount_count;
    const char *root;          /* where to keep the root, or NULL */
    const char *rootfs;        /* the disk that the root is on, as --myst-rootfs names it, or NULL */
    const char *rootfs_path;   /* the same as MYST_ROOTFS_PATH names it */
    const char *arguments_end; /* behind the last byte of all arguments; NULL without any */
};

#endif
