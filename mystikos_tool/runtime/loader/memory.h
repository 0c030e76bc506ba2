/* The enclave in memory. */
#ifndef MYST_MEMORY_H
#define MYST_MEMORY_H

#include "layout.h"

struct myst_memory
{
    uint8_t *base;
    uint64_t size;
};

/* Reserves the enclave's range, without access, and puts in place what its pages hold, but for the
 * package's sections: those are read while they are measured. The pages with content become writable, all
 * others stay untouched and cost nothing. */
int myst_memory_place(struct myst_memory *memory, const struct myst_layout *layout, struct myst_error *error);

/* Gives each page the permissions of its SECINFO. The application's memory (region mman) and what no
 * page is added to stay without access: the embedded runtime does not use them. */
int myst_memory_protect(const struct myst_memory *memory, const struct myst_layout *layout, struct myst_error *error);

#endif
