#include "measure.h"

#include "../common/sha256.h"
#include "reading.h"

#include <string.h>

#define EEXTEND_SIZE 256

struct measuring
{
    struct myst_sha256 hash;
    const struct myst_memory *memory;
    uint64_t base;
    struct myst_reading reading;
    uint64_t complete; /* sections are, up to this offset */
};

/* What each instruction adds to the hash: 64 bytes, of which the last are zero. */
struct ecreate
{
    char name[8];
    uint32_t ssa_frame_size;
    uint32_t size[2]; /* low, high */
    uint8_t zeros[44];
};

struct eadd
{
    char name[8];
    uint64_t offset;
    uint64_t flags;
    uint8_t zeros[40];
};

struct eextend
{
    char name[8];
    uint64_t offset;
    uint8_t zeros[48];
};

_Static_assert(sizeof(struct ecreate) == 64, "ECREATE");
_Static_assert(sizeof(struct eadd) == 64, "EADD");
_Static_assert(sizeof(struct eextend) == 64, "EEXTEND");

static void ecreate(struct myst_sha256 *hash, uint64_t size)
{
    const struct ecreate block = {"ECREATE", SGX_SSA_FRAME_SIZE, {(uint32_t)size, (uint32_t)(size >> 32)}, {0}};
    myst_sha256_update(hash, &block, sizeof block);
}

static void eadd(struct myst_sha256 *hash, uint64_t offset, uint64_t flags)
{
    const struct eadd block = {"EADD", offset, flags, {0}};
    myst_sha256_update(hash, &block, sizeof block);
}

static void eextend_page(struct myst_sha256 *hash, uint64_t offset, const uint8_t *page)
{
    struct eextend block = {"EEXTEND", offset, {0}};
    for (uint64_t at = 0; at < MYST_PAGE; at += EEXTEND_SIZE)
    {
        block.offset = offset + at;
        myst_sha256_update(hash, &block, sizeof block);
        myst_sha256_update(hash, page + at, EEXTEND_SIZE);
    }
}

static int wait_for(struct measuring *measuring, uint64_t offset)
{
    if (offset > measuring->complete)
        measuring->complete = myst_reading_wait(&measuring->reading, offset);
    return offset <= measuring->complete ? 0 : -1;
}

static int measure_run(void *context, const struct myst_run *run)
{
    static const uint8_t zeros[MYST_PAGE];
    struct measuring *measuring = context;
    for (uint64_t i = 0; i < run->pages; i++)
    {
        const uint64_t offset = run->offset + i * MYST_PAGE;
        if (run->content == MYST_CONTENT_SECTION && wait_for(measuring, offset + MYST_PAGE) != 0)
            return -1;
        const uint8_t *page = run->content == MYST_CONTENT_ZERO ? zeros : measuring->memory->base + offset;
        eadd(&measuring->hash, measuring->base + offset, run->flags);
        if (run->measured)
            eextend_page(&measuring->hash, measuring->base + offset, page);
    }
    return 0;
}

int myst_measure(const struct myst_layout *layout, const struct myst_memory *memory, uint8_t mrenclave[32],
                 struct myst_error *error)
{
    struct measuring measuring = {.memory = memory, .base = layout->base};
    myst_sha256_init(&measuring.hash);
    ecreate(&measuring.hash, layout->ecreate_size);
    myst_reading_start(&measuring.reading, layout, memory);
    (void)myst_layout_walk(layout, measure_run, &measuring);
    myst_sha256_final(&measuring.hash, mrenclave);
    return myst_reading_finish(&measuring.reading, error);
}
