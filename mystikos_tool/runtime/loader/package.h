/* The package: an ELF file, the loader itself, with seven sections appended (docs/formats.md,
 * sections 2 and 7). Read through one descriptor, so that a file that is replaced while it runs
 * changes nothing. */
#ifndef MYST_PACKAGE_H
#define MYST_PACKAGE_H

#include "../common/elf.h"
#include "../common/error.h"

#include <stdint.h>

enum myst_package_section
{
    MYST_SECTION_ENCLAVE,
    MYST_SECTION_CRT,
    MYST_SECTION_KERNEL,
    MYST_SECTION_ROOTFS,
    MYST_SECTION_PUBKEYS,
    MYST_SECTION_ROOTHASHES,
    MYST_SECTION_CONFIG,
    MYST_SECTIONS
};

extern const char *const myst_section_names[MYST_SECTIONS];

struct myst_extent
{
    uint64_t offset;
    uint64_t size;
};

struct myst_package
{
    int fd;
    uint64_t size;
    struct myst_extent sections[MYST_SECTIONS];
};

/* Anonymous memory. */
struct myst_buffer
{
    uint8_t *data;
    uint64_t size;
};

/* Finds the sections of the package that is open as `fd`: each must be there once, within the file. */
int myst_package_open(struct myst_package *package, int fd, struct myst_error *error);

/* Reads [at, at + size) of a section; the range must lie within it. */
int myst_package_read(const struct myst_package *package, enum myst_package_section section, uint64_t at, void *to,
                      uint64_t size, struct myst_error *error);

/* Reads a whole section of at most `limit` bytes into memory. */
int myst_package_copy(const struct myst_package *package, enum myst_package_section section, uint64_t limit,
                      struct myst_buffer *buffer, struct myst_error *error);

void myst_buffer_free(struct myst_buffer *buffer);

#endif
