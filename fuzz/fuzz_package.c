/* A package from its sections to the measured enclave in memory; only the signature is not asked for. */
#include "fuzz.h"
#include "loader/einit.h"
#include "loader/measure.h"
#include "loader/memory.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_LOADED_SIZE (1ull << 20) /* of an enclave that is put into memory: larger ones take long */

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

static int file = -1;

static void write_file(const uint8_t *data, size_t size)
{
    if (file < 0)
        file = memfd_create("package", MFD_CLOEXEC);
    PROMISE(file >= 0 && ftruncate(file, (off_t)size) == 0);
    PROMISE(pwrite(file, data, size, 0) == (ssize_t)size);
}

struct checking
{
    const struct myst_layout *layout;
    uint64_t end; /* of the run before */
};

static int check_run(void *context, const struct myst_run *run)
{
    static unsigned char sum;
    struct checking *checking = context;
    const struct myst_layout *layout = checking->layout;
    PROMISE(run->offset % MYST_PAGE == 0 && run->offset >= checking->end);
    PROMISE(run->pages > 0 && run->pages <= (layout->loaded_size - run->offset) / MYST_PAGE);
    checking->end = run->offset + run->pages * MYST_PAGE;
    switch (run->content)
    {
    case MYST_CONTENT_BYTES:
        PROMISE(run->lead < MYST_PAGE && run->size <= run->pages * MYST_PAGE - run->lead);
        for (uint64_t i = 0; i < run->size; i++)
            sum ^= ((const uint8_t *)run->data)[i];
        break;
    case MYST_CONTENT_SECTION:
        PROMISE(run->size <= run->pages * MYST_PAGE);
        PROMISE(run->size == layout->package->sections[run->section].size);
        break;
    case MYST_CONTENT_ZERO:
    case MYST_CONTENT_FILL:
        break;
    }
    return 0;
}

static void check_symbol(void *context, uint64_t rva, uint64_t value)
{
    const struct myst_layout *layout = context;
    (void)value;
    PROMISE(layout->image.size >= 8 && rva <= layout->image.size - 8);
}

static void check_layout(struct myst_layout *layout)
{
    struct checking checking = {layout, 0};
    struct myst_error error;
    PROMISE(layout->loaded_size <= layout->enclave_size && layout->enclave_size <= layout->ecreate_size);
    PROMISE(layout->record_rva + sizeof layout->record <= layout->image.size);
    PROMISE(myst_layout_tcs(layout) < layout->loaded_size);
    (void)myst_layout_symbols(layout, check_symbol, layout, &error);
    if (layout->record.tcs_count <= 16) /* each is a few runs */
        PROMISE(myst_layout_walk(layout, check_run, &checking) == 0 && checking.end <= layout->loaded_size);
}

static void load(const struct myst_layout *layout)
{
    struct myst_memory memory = {NULL, 0};
    struct myst_error error;
    struct myst_secs secs = myst_secs_of(&layout->record);
    if (myst_memory_place(&memory, layout, &error) == 0)
    {
        PROMISE(myst_measure(layout, &memory, secs.mrenclave, &error) == 0);
        (void)myst_einit(&layout->record.sigstruct, &secs, &layout->record, &error);
        PROMISE(myst_memory_protect(&memory, layout, &error) == 0);
    }
    if (memory.base)
        munmap(memory.base, memory.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct myst_layout layout;
    struct myst_package package;
    struct myst_error error;
    write_file(data, size);
    if (myst_package_open(&package, file, &error) != 0)
        return 0;
    if (myst_layout_read(&layout, &package, &error) == 0)
    {
        check_layout(&layout);
        if (layout.loaded_size <= MAX_LOADED_SIZE)
            load(&layout);
    }
    myst_layout_free(&layout);
    return 0;
}

/* Finds a section of the package, or of the ELF file within that section. */
static int find(uint8_t *data, size_t size, const char *section, const char *inner, uint8_t **at, uint64_t *length)
{
    struct myst_elf elf;
    struct myst_error error;
    Elf64_Shdr header;
    const uint8_t *found;
    if (myst_elf_open(&elf, "package", data, size, &error) != 0 ||
        myst_elf_section(&elf, section, &header, &found, length, &error) != MYST_PRESENT)
        return -1;
    *at = data + (found - data);
    return inner ? find(*at, *length, inner, NULL, at, length) : 0;
}

/* The configuration is there twice, which no blind change keeps so. */
static void change_configuration(uint8_t *data, size_t size)
{
    uint8_t *outer, *inner;
    uint64_t outer_size, inner_size;
    if (find(data, size, ".mystconfig", NULL, &outer, &outer_size) != 0 ||
        find(data, size, ".mystenc", ".mystconfig", &inner, &inner_size) != 0 || inner_size != outer_size ||
        outer_size == 0)
        return;
    const size_t changed = LLVMFuzzerMutate(outer, outer_size, outer_size);
    memset(outer + changed, ' ', outer_size - changed);
    memmove(inner, outer, outer_size);
}

/* A change within one section, so that those behind it stay where they are. */
static void change_section(uint8_t *data, size_t size, unsigned seed)
{
    const char *name = myst_section_names[seed % MYST_SECTIONS];
    const char *inner = seed / MYST_SECTIONS % 4 == 0 && seed % MYST_SECTIONS == 0 ? ".oeinfo" : NULL;
    uint8_t *at;
    uint64_t length;
    if (find(data, size, name, inner, &at, &length) == 0 && length > 0)
        (void)LLVMFuzzerMutate(at, length, length);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    switch (seed % 8)
    {
    case 0:
        return LLVMFuzzerMutate(data, size, max_size);
    case 1:
        change_configuration(data, size);
        return size;
    default:
        change_section(data, size, seed / 8);
        return size;
    }
}
