/* Reads all that is asked for. */
#ifndef MYST_READ_H
#define MYST_READ_H

#include <stddef.h>
#include <stdint.h>

/* Returns 0, or -1 when the file ends before or cannot be read. */
int myst_read_at(int file, void *to, size_t size, uint64_t offset);

#endif
