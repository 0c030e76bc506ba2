/* What the enclave image hands to the embedded kernel: where the measured regions lie in memory, and what
 * the host gave. The kernel finds it in its auxiliary vector under AT_MYST_HANDOFF. */
#ifndef MYST_HANDOFF_H
#define MYST_HANDOFF_H

#include "formats.h"
#include "host.h"

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
    struct myst_span enclave;               /* all of it that is in use: nothing is mapped behind */
    struct myst_span regions[MYST_REGIONS]; /* the images of kernel and C runtime as loaded */
    uint64_t debug;                         /* 1 when SIGSTRUCT's attributes have DEBUG */

    /* Not measured: never trusted to change what the configuration fixes. */
    struct myst_host host;
};

#endif
