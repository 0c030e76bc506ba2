#include "memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define LARGE_PAGE (2ull << 20)

struct placing
{
    const struct myst_memory *memory;
    const struct myst_layout *layout;
    struct myst_error *error;
};

static int protect(const struct myst_memory *memory, uint64_t offset, uint64_t size, int access,
                   struct myst_error *error)
{
    if (mprotect(memory->base + offset, size, access) != 0)
        return myst_fail(error, "memory: pages cannot be protected: %s", strerror(errno));
    return 0;
}

/* A large start waits for memory that is touched for the first time, which large pages make faster. It is advice:
 * where the system has none, all is the same. */
static void advise_large_pages(uint8_t *start, uint64_t size)
{
    if (size >= LARGE_PAGE)
        (void)madvise(start, size, MADV_HUGEPAGE);
}

static int place_run(void *context, const struct myst_run *run)
{
    const struct placing *placing = context;
    const struct myst_memory *memory = placing->memory;
    uint8_t *to = memory->base + run->offset;
    if (run->content == MYST_CONTENT_ZERO)
        return 0;
    if (protect(memory, run->offset, run->pages * MYST_PAGE, PROT_READ | PROT_WRITE, placing->error) != 0)
        return -1;
    advise_large_pages(to, run->pages * MYST_PAGE);
    switch (run->content)
    {
    case MYST_CONTENT_BYTES:
        memcpy(to + run->lead, run->data, run->size);
        return 0;
    case MYST_CONTENT_FILL:
        memset(to, run->fill, run->pages * MYST_PAGE);
        return 0;
    case MYST_CONTENT_SECTION:
    case MYST_CONTENT_ZERO:
        break;
    }
    return 0;
}

static void write_symbol(void *context, uint64_t rva, uint64_t value)
{
    const struct myst_memory *memory = context;
    memcpy(memory->base + rva, &value, sizeof value);
}

/* The image in memory knows where it lies; its SIGSTRUCT is not part of what it signs. */
static int fill_in_image(struct myst_memory *memory, const struct myst_layout *layout, struct myst_error *error)
{
    struct myst_oeinfo record = layout->record;
    record.oeinfo_rva = layout->record_rva;
    record.oeinfo_size = sizeof record;
    record.reloc_rva = layout->image.size;
    record.reloc_size = layout->relocations.pages_size;
    record.heap_rva = layout->heap_rva;
    record.enclave_size = layout->enclave_size;
    memset(&record.sigstruct, 0, sizeof record.sigstruct);
    memcpy(memory->base + layout->record_rva, &record, sizeof record);
    return myst_layout_symbols(layout, write_symbol, memory, error);
}

int myst_memory_place(struct myst_memory *memory, const struct myst_layout *layout, struct myst_error *error)
{
    struct placing placing = {memory, layout, error};
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *base = mmap(NULL, layout->loaded_size, PROT_NONE, flags, -1, 0);
    if (base == MAP_FAILED)
        return myst_fail(error, "memory: no room for an enclave of %llu bytes: %s",
                         (unsigned long long)layout->loaded_size, strerror(errno));
    *memory = (struct myst_memory){base, layout->loaded_size};
    if (myst_layout_walk(layout, place_run, &placing) != 0)
        return -1;
    return fill_in_image(memory, layout, error);
}

static int protect_run(void *context, const struct myst_run *run)
{
    const struct placing *placing = context;
    const int access = (run->flags & SGX_SECINFO_R ? PROT_READ : 0) | (run->flags & SGX_SECINFO_W ? PROT_WRITE : 0) |
                       (run->flags & SGX_SECINFO_X ? PROT_EXEC : 0);
    const struct myst_region_place *mman = &placing->layout->regions[MYST_REGION_MMAN];
    if (run->offset >= mman->offset && run->offset - mman->offset < mman->size)
        return 0;
    return protect(placing->memory, run->offset, run->pages * MYST_PAGE, access, placing->error);
}

int myst_memory_protect(const struct myst_memory *memory, const struct myst_layout *layout, struct myst_error *error)
{
    struct myst_memory own = *memory;
    struct placing placing = {&own, layout, error};
    return myst_layout_walk(layout, protect_run, &placing);
}
