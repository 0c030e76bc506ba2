/* An ELF image that goes into the enclave: where its parts lie in memory and what else of it is
 * needed (docs/formats.md, sections 4 and 5). */
#ifndef MYST_IMAGE_H
#define MYST_IMAGE_H

#include "../common/elf.h"
#include "../common/formats.h"

#include <stdint.h>

/* What fits the address space of a process, and an image's share of it: the packager's limits. */
#define MYST_ADDRESS_SPACE (1ull << 47)
#define MYST_MAX_ENCLAVE_SIZE (MYST_ADDRESS_SPACE / 2)
#define MYST_MAX_IMAGE_SIZE (1ull << 30)
#define MYST_MAX_LOADS 64

struct myst_image
{
    struct myst_elf elf;
    Elf64_Phdr loads[MYST_MAX_LOADS]; /* by address; no page belongs to two */
    unsigned load_count;
    uint64_t size; /* in memory: whole pages */
};

/* Whole pages that are made of part of an image. */
struct myst_table
{
    const uint8_t *data; /* NULL when there are no pages */
    uint64_t size;       /* bytes of data; zeros follow to the end of the pages */
    uint64_t pages_size;
};

/* Reads an image from memory, which must outlive it. */
int myst_image_open(struct myst_image *image, const char *where, const void *data, uint64_t size,
                    struct myst_error *error);

/* Copies `size` bytes that the file puts at address `rva`; refuses what does not come from it. */
int myst_image_read(const struct myst_image *image, uint64_t rva, void *to, uint64_t size, struct myst_error *error);

/* True when the range lies within one PT_LOAD. */
int myst_image_covers(const struct myst_image *image, uint64_t rva, uint64_t size);

/* A mask with bit n set for each accepted relocation type n. */
#define MYST_ENCLAVE_RELOCATIONS                                                                      \
    (1u << R_X86_64_RELATIVE | 1u << R_X86_64_TPOFF64 | 1u << R_X86_64_GLOB_DAT | 1u << R_X86_64_64 | \
     1u << R_X86_64_JUMP_SLOT)
#define MYST_KERNEL_RELOCATIONS                                                                       \
    (1u << R_X86_64_RELATIVE | 1u << R_X86_64_TPOFF64 | 1u << R_X86_64_GLOB_DAT | 1u << R_X86_64_64 | \
     1u << R_X86_64_COPY | 1u << R_X86_64_DTPMOD64)

/* Makes the relocation region: .rela.dyn and, where `with_plt`, .rela.plt. The table's data is
 * allocated; free it with myst_table_free. */
int myst_image_relocations(const struct myst_image *image, int with_plt, uint32_t accepted, struct myst_table *table,
                           struct myst_error *error);
void myst_table_free(struct myst_table *table);

/* The section, then zeros; `with_following`, the bytes that follow it in the file come before the zeros. The data is
 * the image's own. */
int myst_image_section(const struct myst_image *image, const char *name, int with_following, struct myst_table *table,
                       struct myst_error *error);

/* Thread-local data: bytes of all of it in whole pages, and what the image's symbols are told. */
struct myst_tls
{
    uint64_t pages_size;
    uint64_t tdata_rva, tdata_size, tdata_align;
    uint64_t tbss_size, tbss_align;
};
int myst_image_tls(const struct myst_image *image, struct myst_tls *tls, struct myst_error *error);

#endif
