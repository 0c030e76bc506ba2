/* The enclave image at its entry: the relocations that it applies, and the regions that it finds from their end
 * backwards. The input says what lies in memory behind the image: how many relocations, where the heap begins, sixteen
 * trailers, and the relocations. */
#include "common/start.h"
#include "fuzz.h"

#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define PAGES 64u
#define TRAILER_SIZE 18u /* in the input: page, what is wrong with it, size, size of the file */

static jmp_buf started;
static const void *kernel;
static void *stack_end;

__attribute__((noreturn)) static void start_kernel(const void *image, void *stack, int argc, char *const *argv,
                                                   char *const *envp, const void *auxv, uint64_t type,
                                                   const void *handed_over)
{
    PROMISE(argc == 1 && argv[0] && !argv[1] && !envp[0] && !auxv && type && handed_over);
    kernel = image;
    stack_end = stack;
    longjmp(started, 1);
}

/* The C library has a _start and these functions already, and the kernel is not there to be started. */
#define _start enclave_start
#define memset enclave_memset
#define memcpy enclave_memcpy
#define myst_start_image start_kernel
#include "enclave/enclave.c"
#undef memset
#undef memcpy

static unsigned char *memory;

static void put_trailer(const uint8_t *given, uint64_t index)
{
    struct myst_trailer trailer = {.magic = MYST_TRAILER_MAGIC, .index = index};
    strcpy(trailer.name, region_names[index]);
    if (given[1] & 1)
        trailer.magic++;
    if (given[1] & 2)
        trailer.name[0]++;
    if (given[1] & 4)
        trailer.index++;
    if (given[1] & 8) /* without an end */
        memset(trailer.name, 'k', sizeof trailer.name);
    memcpy(&trailer.size, given + 2, 8);
    memcpy(&trailer.file_size, given + 10, 8);
    memcpy(memory + given[0] % PAGES * PAGE, &trailer, sizeof trailer);
}

/* What is relocated lies within the image, and never in the relocations, which can only be read. */
static void put_relocations(const uint8_t *data, size_t count)
{
    for (size_t i = 0; i < count; i++)
    {
        struct rela entry;
        memcpy(&entry, data + i * sizeof entry, sizeof entry);
        entry.offset = PAGE + (entry.offset % ((PAGES - 1) * PAGE - 8) & ~7ull);
        memcpy(memory + i * sizeof entry, &entry, sizeof entry);
    }
}

static void check_regions(void)
{
    const unsigned char *at = memory + _reloc_rva + _reloc_size;
    for (unsigned i = 0; i < MYST_REGIONS; i++)
    {
        const unsigned char *data = handoff.regions[i].data;
        PROMISE(data == at);
        const uint64_t left = (uint64_t)(memory + oeinfo.heap_rva - data);
        PROMISE(left >= PAGE && handoff.regions[i].size <= left - PAGE);
        /* The next one begins behind the trailer, wherever within the pages the data ends. */
        at = i + 1 < MYST_REGIONS ? handoff.regions[i + 1].data : memory + oeinfo.heap_rva;
        PROMISE(at > data && at <= memory + oeinfo.heap_rva);
    }
    PROMISE(kernel == handoff.regions[MYST_REGION_KERNEL].data);
    const struct myst_span *stack = &handoff.regions[MYST_REGION_ENTER_STACK];
    PROMISE(stack_end == (unsigned char *)stack->data + stack->size);
}

/* Below the image, as an enclave's start is, and between pages that cannot be accessed. */
static void set_up(void)
{
    if (!memory)
    {
        unsigned char *all = mmap(NULL, (PAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        PROMISE(all != MAP_FAILED && mprotect(all + PAGE, PAGES * PAGE, PROT_READ | PROT_WRITE) == 0);
        memory = all + PAGE;
    }
    memset(memory, 0, PAGES * PAGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct myst_host host = {.name = "package"};
    const size_t fixed = 2 + MYST_REGIONS * TRAILER_SIZE;
    if (size < fixed)
        return 0;
    const size_t count = (size - fixed) / sizeof(struct rela) % (PAGE / sizeof(struct rela) + 1);
    set_up();
    put_relocations(data + fixed, count);
    for (unsigned i = 0; i < MYST_REGIONS; i++)
        put_trailer(data + 2 + i * TRAILER_SIZE, i);
    _enclave_rva = (uint64_t)&_enclave_rva - (uint64_t)memory;
    _reloc_rva = 0;
    _reloc_size = data[0] % 2 * PAGE;
    oeinfo.heap_rva = data[1] % (PAGES + 1) * PAGE;
    if (setjmp(started) == 0)
    {
        const char *reason = enclave_start(&host);
        PROMISE(reason && *reason);
    }
    else
        check_regions();
    return 0;
}
