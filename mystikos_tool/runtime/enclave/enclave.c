/* The enclave image: entered by the loader once everything is measured, checked and protected. It
 * relocates itself, finds the measured regions from the end of them backwards, and starts the
 * kernel image where it lies. Freestanding: no C library, no thread-local data. */
#include "../common/formats.h"
#include "../common/handoff.h"
#include "../common/start.h"

#define EXPORTED __attribute__((visibility("default")))

/* The record that the packager completes and the loader reads (docs/formats.md, section 4). One
 * thread enters, and nothing here uses a heap: fewer pages are a quicker start. */
__attribute__((section(".oeinfo"), used, aligned(8))) static volatile struct myst_oeinfo oeinfo = {
    .size = sizeof(struct myst_oeinfo),
    .enclave_type = OEINFO_TYPE_SGX,
    .heap_pages = 1,
    .stack_pages = 2,
    .tcs_count = 1,
    .flags = OEINFO_FLAG_CAPTURE_PF_GP,
    .attributes = {.flags = SGX_ATTRIBUTE_MODE64BIT},
    .end_marker = OEINFO_END_MARKER,
};

/* Set when the enclave is laid out; relative to its start, in bytes. */
EXPORTED volatile uint64_t _enclave_rva = 0;
EXPORTED volatile uint64_t _reloc_rva = 0;
EXPORTED volatile uint64_t _reloc_size = 0;
EXPORTED volatile uint64_t _td_from_tcs_offset = 0;

/* Elf64_Rela, and the types that need no symbol (AMD64 supplement, section 4.4). */
struct rela
{
    uint64_t offset;
    uint64_t info;
    int64_t addend;
};
enum
{
    R_X86_64_NONE = 0,
    R_X86_64_RELATIVE = 8
};

static const char *const region_names[MYST_REGIONS] = MYST_REGION_NAMES;

static struct myst_handoff handoff;

/* A compiler may call these even for freestanding code. */
void *memset(void *to, int byte, size_t size);
void *memcpy(void *restrict to, const void *restrict from, size_t size);

void *memset(void *to, int byte, size_t size)
{
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
    return to;
}

static int equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* Zeros pad the region to a page, and read as R_X86_64_NONE. */
static int relocate(unsigned char *base)
{
    const struct rela *entry = (const struct rela *)(base + _reloc_rva);
    const struct rela *end = entry + _reloc_size / sizeof *entry;
    for (; entry < end; entry++)
    {
        if ((uint32_t)entry->info == R_X86_64_NONE)
            continue;
        if ((uint32_t)entry->info != R_X86_64_RELATIVE)
            return -1;
        *(uint64_t *)(base + entry->offset) = (uint64_t)base + (uint64_t)entry->addend;
    }
    return 0;
}

/* Every region is followed by its trailer, and the last trailer by the heap. */
static int find_regions(const unsigned char *base)
{
    const uint64_t first = _reloc_rva + _reloc_size;
    uint64_t end = oeinfo.heap_rva;
    for (uint64_t index = MYST_REGIONS; index-- > 0;)
    {
        if (end < first + MYST_PAGE)
            return -1;
        const struct myst_trailer *trailer = (const void *)(base + end - MYST_PAGE);
        if (trailer->magic != MYST_TRAILER_MAGIC || trailer->index != index)
            return -1;
        if (!equal(trailer->name, region_names[index]))
            return -1;
        if (trailer->size > end - MYST_PAGE - first || trailer->size % MYST_PAGE || trailer->file_size > trailer->size)
            return -1;
        end -= MYST_PAGE + trailer->size;
        handoff.regions[index] = (struct myst_span){base + end, trailer->file_size};
    }
    return end == first ? 0 : -1;
}

/* Bytes from the start of the enclave to the end of its last thread (docs/formats.md, section 5). */
static uint64_t loaded_size(void)
{
    const uint64_t thread_size = (oeinfo.stack_pages + 3) * MYST_PAGE + _td_from_tcs_offset;
    return oeinfo.heap_rva + oeinfo.heap_pages * MYST_PAGE + oeinfo.tcs_count * thread_size;
}

/* The entry point. Returns only when the kernel image cannot be started: what is wrong, for the loader to tell. */
EXPORTED const char *_start(const struct myst_host *host);

const char *_start(const struct myst_host *host)
{
    unsigned char *base = (unsigned char *)&_enclave_rva - _enclave_rva;
    static char *no_environment[] = {0};
    static char *arguments[] = {(char *)"libmystkernel", 0};

    /* Compilers would take what lies around _enclave_rva for an access beyond it. */
    __asm__("" : "+r"(base));
    if (relocate(base) != 0)
        return "it has a relocation of a type that it cannot apply";
    if (find_regions(base) != 0)
        return "the measured regions are not where they should be";
    handoff.enclave = (struct myst_span){base, loaded_size()};
    handoff.debug = (oeinfo.attributes.flags & SGX_ATTRIBUTE_DEBUG) != 0;
    handoff.host = *host;

    const struct myst_span *stack = &handoff.regions[MYST_REGION_ENTER_STACK];
    myst_start_image(handoff.regions[MYST_REGION_KERNEL].data, (unsigned char *)stack->data + stack->size, 1, arguments,
                     no_environment, host->auxv, AT_MYST_HANDOFF, &handoff);
}
