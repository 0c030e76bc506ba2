/* Sizes: of pages, of arrays, of ranges. */
#ifndef MYST_SIZES_H
#define MYST_SIZES_H

#include <stdint.h>

#define MYST_PAGE 4096ull /* bytes, of x86-64 and of SGX */

#define MYST_COUNT(array) (sizeof(array) / sizeof *(array))

/* The next multiple of a page. */
static inline uint64_t myst_page_up(uint64_t size)
{
    return (size + MYST_PAGE - 1) & ~(MYST_PAGE - 1);
}

/* True when [offset, offset + size) lies within `limit` bytes. */
static inline int myst_within(uint64_t offset, uint64_t size, uint64_t limit)
{
    return size <= limit && offset <= limit - size;
}

/* Threads that an enclave has at most. */
#define MYST_MAX_THREADS 1024

#endif
