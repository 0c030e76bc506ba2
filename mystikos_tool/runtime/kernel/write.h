#ifndef MYST_WRITE_H
#define MYST_WRITE_H

#include <stddef.h>

/* Writes `size` bytes; returns -1, with errno, where that fails. */
int myst_write_all(int file, const void *data, size_t size);

#endif
