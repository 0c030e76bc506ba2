/* The enclave's layout: a stream of runs of pages in the order in which they are added
 * (docs/formats.md, section 5). What is done with the pages is the visitors' business: placing,
 * measuring and protecting them are three walks over the one stream. */
#ifndef MYST_LAYOUT_H
#define MYST_LAYOUT_H

#include "image.h"
#include "package.h"

#include <stdint.h>

/* What a run's pages hold. Bytes that nothing is said of are zero. */
enum myst_content
{
    MYST_CONTENT_ZERO,    /* nothing */
    MYST_CONTENT_BYTES,   /* `size` bytes at `data`, placed `lead` bytes behind the run's start */
    MYST_CONTENT_SECTION, /* `size` bytes: the package's section `section` */
    MYST_CONTENT_FILL     /* every byte is `fill` */
};

struct myst_run
{
    uint64_t offset; /* bytes from the start of the image */
    uint64_t pages;
    uint64_t flags; /* SECINFO */
    int measured;
    enum myst_content content;
    const void *data;
    uint64_t size;
    uint64_t lead;
    enum myst_package_section section;
    uint8_t fill;
};

struct myst_region_place
{
    uint64_t offset;
    uint64_t size;      /* whole pages */
    uint64_t file_size; /* bytes */
};

/* An enclave before it is in memory. All sizes in bytes. */
struct myst_layout
{
    const struct myst_package *package;
    struct myst_image image, kernel, crt;
    struct myst_buffer image_file, kernel_file, crt_file, config;
    struct myst_table relocations, kernel_relocations, crt_relocations;
    struct myst_table kernel_symtab, kernel_dynsym, kernel_strtab, kernel_dynstr;
    struct myst_tls tls;

    struct myst_oeinfo record; /* as it is in the file */
    uint64_t record_rva;
    uint64_t memory_size; /* of the application */

    struct myst_region_place regions[MYST_REGIONS];
    uint64_t base;         /* added to what is measured: the start address of a zero-base enclave */
    uint64_t heap_rva;     /* behind the regions */
    uint64_t threads_rva;  /* behind the heap */
    uint64_t thread_size;  /* of one thread's pages, those left out included */
    uint64_t loaded_size;  /* of all that is in use */
    uint64_t enclave_size; /* the power of two that it fits in */
    uint64_t ecreate_size; /* the same with the base */
};

/* Reads the package's parts and lays them out. Call myst_layout_free in either case. */
int myst_layout_read(struct myst_layout *layout, const struct myst_package *package, struct myst_error *error);
void myst_layout_free(struct myst_layout *layout);

/* Offset of the first thread's TCS; its stack ends a page below. */
uint64_t myst_layout_tcs(const struct myst_layout *layout);

/* Calls `visit` for each run, in order, up to the first that does not return 0; returns that. */
typedef int myst_visit_fn(void *context, const struct myst_run *run);
int myst_layout_walk(const struct myst_layout *layout, myst_visit_fn *visit, void *context);

/* Calls `write` for each dynamic symbol of the image that is told something, with its address and
 * what it is told (docs/formats.md, section 4). */
typedef void myst_symbol_fn(void *context, uint64_t rva, uint64_t value);
int myst_layout_symbols(const struct myst_layout *layout, myst_symbol_fn *write, void *context,
                        struct myst_error *error);

#endif
