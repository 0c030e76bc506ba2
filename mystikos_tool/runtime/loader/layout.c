#include "layout.h"

#include "../common/config_reader.h"

#include <stdlib.h>
#include <string.h>

#define MAX_IMAGE_FILE_SIZE (1ull << 30)
#define MAX_CONFIG_SIZE (16ull << 20)
#define MAX_TCS_COUNT 1024
#define MAX_STACK_PAGES (1u << 20)

#define FDMAPPING_SIZE 32
#define PID_SIZE 4
#define ENTER_STACK_PAGES 31
#define STACK_FILL 0xcc
#define SSA_PAGES 2
#define NSSA 2
#define TD_OFFSET_PAGES 4 /* from the TCS to its thread-local storage: SSA and a page left out */

#define RO (SGX_SECINFO_REG | SGX_SECINFO_R)
#define RW (RO | SGX_SECINFO_W)
#define RWX (RW | SGX_SECINFO_X)

static const char *const region_names[MYST_REGIONS] = MYST_REGION_NAMES;

static uint64_t power_of_two_up(uint64_t size)
{
    uint64_t power = 1;
    while (power < size)
        power *= 2;
    return power;
}

static int read_image(struct myst_layout *layout, struct myst_image *image, struct myst_buffer *file,
                      enum myst_package_section section, struct myst_error *error)
{
    if (myst_package_copy(layout->package, section, MAX_IMAGE_FILE_SIZE, file, error) != 0)
        return -1;
    return myst_image_open(image, myst_section_names[section], file->data, file->size, error);
}

/* The record in the file: how the enclave is laid out, and its SIGSTRUCT. */
static int read_record(struct myst_layout *layout, struct myst_error *error)
{
    const struct myst_image *image = &layout->image;
    const char *where = image->elf.where;
    struct myst_oeinfo *record = &layout->record;
    Elf64_Shdr section;
    const int found = myst_section_find(&image->elf.sections, where, ".oeinfo", &section, error);
    if (found < 0)
        return -1;
    if (found == MYST_ABSENT || section.sh_size != OEINFO_SIZE)
        return myst_fail(error, "%s: has no section .oeinfo of %d bytes", where, OEINFO_SIZE);
    layout->record_rva = section.sh_addr;
    if (myst_image_read(image, section.sh_addr, record, sizeof *record, error) != 0)
        return -1;
    if (record->size != OEINFO_SIZE || record->enclave_type != OEINFO_TYPE_SGX ||
        record->end_marker != OEINFO_END_MARKER)
        return myst_fail(error, "%s: .oeinfo holds no record of an SGX enclave", where);
    if (record->tcs_count == 0 || record->tcs_count > MAX_TCS_COUNT || record->stack_pages == 0 ||
        record->stack_pages > MAX_STACK_PAGES)
        return myst_fail(error, "%s: .oeinfo asks for no thread, or too many, or too large a stack", where);
    if (record->heap_pages > MYST_MAX_ENCLAVE_SIZE / MYST_PAGE)
        return myst_fail(error, "%s: .oeinfo asks for too large a heap", where);
    const int zero_base = (record->flags & OEINFO_FLAG_ZERO_BASE) != 0;
    if (zero_base)
        layout->base = record->start_address;
    if (layout->base > MYST_ADDRESS_SPACE || layout->base % MYST_PAGE != 0 || (zero_base && layout->base == 0))
        return myst_fail(error, "%s: .oeinfo has a start address that no enclave can have", where);
    return 0;
}

/* The configuration: the package has it beside the enclave image, which has it too. */
static int read_config(struct myst_layout *layout, struct myst_error *error)
{
    Elf64_Shdr header;
    const uint8_t *own;
    uint64_t own_size;
    struct myst_config parsed;
    struct myst_buffer *config = &layout->config;
    if (myst_package_copy(layout->package, MYST_SECTION_CONFIG, MAX_CONFIG_SIZE, config, error) != 0)
        return -1;
    if (myst_elf_section(&layout->image.elf, ".mystconfig", &header, &own, &own_size, error) < 0)
        return -1;
    if (own_size != config->size || memcmp(own, config->data, own_size) != 0)
        return myst_fail(error, "configuration: the package's is not the enclave image's");
    const int result = myst_config_read((const char *)config->data, config->size, &parsed, error);
    layout->memory_size = parsed.memory_size;
    myst_config_free(&parsed);
    return result != 0 ? -1 : 0;
}

static int read_tables(struct myst_layout *layout, struct myst_error *error)
{
    const struct myst_image *kernel = &layout->kernel;
    if (myst_image_relocations(&layout->image, 1, MYST_ENCLAVE_RELOCATIONS, &layout->relocations, error) != 0 ||
        myst_image_relocations(kernel, 0, MYST_KERNEL_RELOCATIONS, &layout->kernel_relocations, error) != 0 ||
        myst_image_relocations(&layout->crt, 0, MYST_KERNEL_RELOCATIONS, &layout->crt_relocations, error) != 0 ||
        myst_image_section(kernel, ".symtab", 1, &layout->kernel_symtab, error) != 0 ||
        myst_image_section(kernel, ".dynsym", 1, &layout->kernel_dynsym, error) != 0 ||
        myst_image_section(kernel, ".strtab", 0, &layout->kernel_strtab, error) != 0 ||
        myst_image_section(kernel, ".dynstr", 0, &layout->kernel_dynstr, error) != 0)
        return -1;
    return myst_image_tls(&layout->image, &layout->tls, error);
}

static struct myst_region_place pages(uint64_t size)
{
    return (struct myst_region_place){.size = size, .file_size = size};
}

static struct myst_region_place padded(uint64_t size)
{
    return (struct myst_region_place){.size = myst_page_up(size), .file_size = size};
}

static void size_regions(struct myst_layout *layout)
{
    const struct myst_extent *sections = layout->package->sections;
    const uint64_t memory_pages = layout->memory_size / MYST_PAGE;
    const struct myst_region_place places[MYST_REGIONS] = {
        [MYST_REGION_KERNEL] = pages(layout->kernel.size),
        [MYST_REGION_KERNEL_RELOC] = pages(layout->kernel_relocations.pages_size),
        [MYST_REGION_KERNEL_SYMTAB] = pages(layout->kernel_symtab.pages_size),
        [MYST_REGION_KERNEL_DYNSYM] = pages(layout->kernel_dynsym.pages_size),
        [MYST_REGION_KERNEL_STRTAB] = pages(layout->kernel_strtab.pages_size),
        [MYST_REGION_KERNEL_DYNSTR] = pages(layout->kernel_dynstr.pages_size),
        [MYST_REGION_CRT] = pages(layout->crt.size),
        [MYST_REGION_CRT_RELOC] = pages(layout->crt_relocations.pages_size),
        [MYST_REGION_ROOTFS] = padded(sections[MYST_SECTION_ROOTFS].size),
        [MYST_REGION_FDMAPPINGS] = padded(memory_pages * FDMAPPING_SIZE),
        [MYST_REGION_PUBKEYS] = padded(sections[MYST_SECTION_PUBKEYS].size),
        [MYST_REGION_ROOTHASHES] = padded(sections[MYST_SECTION_ROOTHASHES].size),
        [MYST_REGION_MMAN] = pages((memory_pages + 2) * MYST_PAGE),
        [MYST_REGION_CONFIG] = padded(layout->config.size),
        [MYST_REGION_ENTER_STACK] = pages((1 + ENTER_STACK_PAGES) * MYST_PAGE),
        [MYST_REGION_MMAN_PIDS] = padded(memory_pages * PID_SIZE),
    };
    memcpy(layout->regions, places, sizeof places);
}

/* Gives everything its place. No term is above 2^46, there are few, and at most 2^10 threads: the sums
 * cannot overflow. */
static int place_parts(struct myst_layout *layout, struct myst_error *error)
{
    const struct myst_oeinfo *record = &layout->record;
    uint64_t offset = layout->image.size + layout->relocations.pages_size;
    for (int i = 0; i < MYST_REGIONS; i++)
    {
        layout->regions[i].offset = offset;
        if (layout->regions[i].size > MYST_MAX_ENCLAVE_SIZE)
            return myst_fail(error, "package: region %s is larger than an enclave", region_names[i]);
        offset += layout->regions[i].size + MYST_PAGE;
    }
    layout->heap_rva = offset;
    layout->threads_rva = offset + record->heap_pages * MYST_PAGE;
    layout->thread_size = (record->stack_pages + 2 + 5) * MYST_PAGE + layout->tls.pages_size;
    layout->loaded_size = layout->threads_rva + record->tcs_count * layout->thread_size;
    if (layout->thread_size > MYST_MAX_ENCLAVE_SIZE || layout->loaded_size > MYST_MAX_ENCLAVE_SIZE)
        return myst_fail(error, "package: the enclave is larger than 64 TiB");
    if (layout->base + layout->loaded_size > MYST_ADDRESS_SPACE)
        return myst_fail(error, "package: the start address leaves no room for the enclave below 2^47");
    layout->enclave_size = power_of_two_up(layout->loaded_size);
    layout->ecreate_size = power_of_two_up(layout->loaded_size + layout->base);
    return 0;
}

int myst_layout_read(struct myst_layout *layout, const struct myst_package *package, struct myst_error *error)
{
    memset(layout, 0, sizeof *layout);
    layout->package = package;
    if (read_image(layout, &layout->image, &layout->image_file, MYST_SECTION_ENCLAVE, error) != 0 ||
        read_image(layout, &layout->kernel, &layout->kernel_file, MYST_SECTION_KERNEL, error) != 0 ||
        read_image(layout, &layout->crt, &layout->crt_file, MYST_SECTION_CRT, error) != 0 ||
        read_record(layout, error) != 0 || read_config(layout, error) != 0 || read_tables(layout, error) != 0)
        return -1;
    size_regions(layout);
    return place_parts(layout, error);
}

void myst_layout_free(struct myst_layout *layout)
{
    myst_table_free(&layout->relocations);
    myst_table_free(&layout->kernel_relocations);
    myst_table_free(&layout->crt_relocations);
    myst_buffer_free(&layout->image_file);
    myst_buffer_free(&layout->kernel_file);
    myst_buffer_free(&layout->crt_file);
    myst_buffer_free(&layout->config);
}

uint64_t myst_layout_tcs(const struct myst_layout *layout)
{
    return layout->threads_rva + (layout->record.stack_pages + 2) * MYST_PAGE;
}

struct walk
{
    const struct myst_layout *layout;
    myst_visit_fn *visit;
    void *context;
};

static int emit(const struct walk *walk, struct myst_run run)
{
    return run.pages > 0 ? walk->visit(walk->context, &run) : 0;
}

static int emit_zeros(const struct walk *walk, uint64_t offset, uint64_t size, uint64_t flags, int measured)
{
    return emit(walk, (struct myst_run){
                          .offset = offset,
                          .pages = size / MYST_PAGE,
                          .flags = flags,
                          .measured = measured,
                      });
}

static int emit_bytes(const struct walk *walk, uint64_t offset, uint64_t pages_size, uint64_t flags, const void *data,
                      uint64_t size)
{
    return emit(walk, (struct myst_run){
                          .offset = offset,
                          .pages = pages_size / MYST_PAGE,
                          .flags = flags,
                          .measured = 1,
                          .content = MYST_CONTENT_BYTES,
                          .data = data,
                          .size = size,
                      });
}

static int emit_table(const struct walk *walk, uint64_t offset, const struct myst_table *table)
{
    return emit_bytes(walk, offset, table->pages_size, RO, table->data, table->size);
}

/* Each page that a PT_LOAD touches. */
static int emit_image(const struct walk *walk, uint64_t offset, const struct myst_image *image)
{
    for (unsigned i = 0; i < image->load_count; i++)
    {
        const Elf64_Phdr *load = &image->loads[i];
        const uint64_t lead = load->p_vaddr % MYST_PAGE;
        const struct myst_run run = {
            .offset = offset + load->p_vaddr - lead,
            .pages = myst_page_up(lead + load->p_memsz) / MYST_PAGE,
            .flags = SGX_SECINFO_REG | (load->p_flags & PF_R ? SGX_SECINFO_R : 0u) |
                     (load->p_flags & PF_W ? SGX_SECINFO_W : 0u) | (load->p_flags & PF_X ? SGX_SECINFO_X : 0u),
            .measured = 1,
            .content = MYST_CONTENT_BYTES,
            .data = image->elf.data + load->p_offset,
            .size = load->p_filesz,
            .lead = lead,
        };
        if (emit(walk, run) != 0)
            return -1;
    }
    return 0;
}

static int emit_section(const struct walk *walk, const struct myst_region_place *place,
                        enum myst_package_section section)
{
    return emit(walk, (struct myst_run){
                          .offset = place->offset,
                          .pages = place->size / MYST_PAGE,
                          .flags = RO,
                          .measured = 1,
                          .content = MYST_CONTENT_SECTION,
                          .size = place->file_size,
                          .section = section,
                      });
}

/* A measured guard page without permissions, pages that are not measured, and `closing` guard pages. */
static int emit_guarded(const struct walk *walk, const struct myst_region_place *place, uint64_t flags,
                        uint64_t closing)
{
    const uint64_t inner = place->size - (1 + closing) * MYST_PAGE;
    if (emit_zeros(walk, place->offset, MYST_PAGE, SGX_SECINFO_REG, 1) != 0 ||
        emit_zeros(walk, place->offset + MYST_PAGE, inner, flags, 0) != 0)
        return -1;
    return emit_zeros(walk, place->offset + MYST_PAGE + inner, closing * MYST_PAGE, SGX_SECINFO_REG, 1);
}

static int emit_region_pages(const struct walk *walk, enum myst_region region)
{
    const struct myst_layout *layout = walk->layout;
    const struct myst_region_place *place = &layout->regions[region];
    switch (region)
    {
    case MYST_REGION_KERNEL:
        return emit_image(walk, place->offset, &layout->kernel);
    case MYST_REGION_KERNEL_RELOC:
        return emit_table(walk, place->offset, &layout->kernel_relocations);
    case MYST_REGION_KERNEL_SYMTAB:
        return emit_table(walk, place->offset, &layout->kernel_symtab);
    case MYST_REGION_KERNEL_DYNSYM:
        return emit_table(walk, place->offset, &layout->kernel_dynsym);
    case MYST_REGION_KERNEL_STRTAB:
        return emit_table(walk, place->offset, &layout->kernel_strtab);
    case MYST_REGION_KERNEL_DYNSTR:
        return emit_table(walk, place->offset, &layout->kernel_dynstr);
    case MYST_REGION_CRT:
        return emit_image(walk, place->offset, &layout->crt);
    case MYST_REGION_CRT_RELOC:
        return emit_table(walk, place->offset, &layout->crt_relocations);
    case MYST_REGION_ROOTFS:
        return emit_section(walk, place, MYST_SECTION_ROOTFS);
    case MYST_REGION_PUBKEYS:
        return emit_section(walk, place, MYST_SECTION_PUBKEYS);
    case MYST_REGION_ROOTHASHES:
        return emit_section(walk, place, MYST_SECTION_ROOTHASHES);
    case MYST_REGION_CONFIG:
        return emit_bytes(walk, place->offset, place->size, RO, layout->config.data, layout->config.size);
    case MYST_REGION_FDMAPPINGS:
    case MYST_REGION_MMAN_PIDS:
        return emit_zeros(walk, place->offset, place->size, RW, 1);
    case MYST_REGION_MMAN:
        return emit_guarded(walk, place, RWX, 1);
    case MYST_REGION_ENTER_STACK:
        return emit_guarded(walk, place, RW, 0);
    case MYST_REGIONS:
        break;
    }
    return -1;
}

static int emit_region(const struct walk *walk, enum myst_region region)
{
    const struct myst_region_place *place = &walk->layout->regions[region];
    struct myst_trailer trailer = {
        .magic = MYST_TRAILER_MAGIC,
        .size = place->size,
        .file_size = place->file_size,
        .index = (uint64_t)region,
    };
    memcpy(trailer.name, region_names[region], strlen(region_names[region]));
    if (emit_region_pages(walk, region) != 0)
        return -1;
    return emit_bytes(walk, place->offset + place->size, MYST_PAGE, RO, &trailer, sizeof trailer);
}

/* A thread: its stack, its TCS with two SSA frames, its thread-local storage; a page left out before
 * each of the three. */
static int emit_thread(const struct walk *walk, uint64_t offset)
{
    const struct myst_layout *layout = walk->layout;
    const uint64_t stack_pages = layout->record.stack_pages;
    const uint64_t tcs_rva = offset + (1 + stack_pages + 1) * MYST_PAGE;
    const uint64_t tcs_address = layout->base + tcs_rva;
    const uint64_t td_address = tcs_address + TD_OFFSET_PAGES * MYST_PAGE + layout->tls.pages_size;
    const struct sgx_tcs tcs = {
        .ossa = tcs_address + MYST_PAGE,
        .nssa = NSSA,
        .oentry = layout->base + layout->image.elf.header.e_entry,
        .ofsbase = td_address,
        .ogsbase = td_address,
        .fslimit = 0xffffffff,
        .gslimit = 0xffffffff,
    };
    const struct myst_run stack = {
        .offset = offset + MYST_PAGE,
        .pages = stack_pages,
        .flags = RW,
        .measured = 1,
        .content = MYST_CONTENT_FILL,
        .fill = STACK_FILL,
    };
    if (emit(walk, stack) != 0 || emit_bytes(walk, tcs_rva, MYST_PAGE, SGX_SECINFO_TCS, &tcs, sizeof tcs) != 0 ||
        emit_zeros(walk, tcs_rva + MYST_PAGE, SSA_PAGES * MYST_PAGE, RW, 1) != 0)
        return -1;
    return emit_zeros(walk, tcs_rva + TD_OFFSET_PAGES * MYST_PAGE, layout->tls.pages_size + MYST_PAGE, RW, 1);
}

int myst_layout_walk(const struct myst_layout *layout, myst_visit_fn *visit, void *context)
{
    const struct walk walk = {layout, visit, context};
    const uint64_t heap_size = layout->record.heap_pages * MYST_PAGE;
    if (emit_image(&walk, 0, &layout->image) != 0 || emit_table(&walk, layout->image.size, &layout->relocations) != 0)
        return -1;
    for (int region = 0; region < MYST_REGIONS; region++)
        if (emit_region(&walk, (enum myst_region)region) != 0)
            return -1;
    if (emit_zeros(&walk, layout->heap_rva, heap_size, RW, 0) != 0)
        return -1;
    for (uint64_t thread = 0; thread < layout->record.tcs_count; thread++)
        if (emit_thread(&walk, layout->threads_rva + thread * layout->thread_size) != 0)
            return -1;
    return 0;
}

/* Tells one symbol, where the image has it, its value. */
static int tell_symbol(const struct myst_layout *layout, const char *name,
                       const uint64_t *value, /* NULL: its own address */
                       myst_symbol_fn *write, void *context, struct myst_error *error)
{
    const struct myst_image *image = &layout->image;
    Elf64_Sym symbol;
    const int found = myst_elf_find_dynamic_symbol(&image->elf, name, &symbol, error);
    if (found < 0)
        return -1;
    if (found == MYST_ABSENT)
        return 0;
    if (!myst_image_covers(image, symbol.st_value, sizeof *value))
        return myst_fail(error, "%s: symbol %s lies outside of the image", image->elf.where, name);
    write(context, symbol.st_value, value ? *value : symbol.st_value);
    return 0;
}

int myst_layout_symbols(const struct myst_layout *layout, myst_symbol_fn *write, void *context,
                        struct myst_error *error)
{
    const struct myst_tls *tls = &layout->tls;
    const uint64_t td_offset = tls->pages_size + TD_OFFSET_PAGES * MYST_PAGE;
    const struct
    {
        const char *name;
        const uint64_t *value;
        int told;
    } symbols[] = {
        {"_enclave_rva", NULL, 1},
        {"_reloc_rva", &layout->image.size, 1},
        {"_reloc_size", &layout->relocations.pages_size, 1},
        {"_td_from_tcs_offset", &td_offset, 1},
        {"_tdata_rva", &tls->tdata_rva, tls->tdata_size > 0},
        {"_tdata_size", &tls->tdata_size, tls->tdata_size > 0},
        {"_tdata_align", &tls->tdata_align, tls->tdata_size > 0},
        {"_tbss_size", &tls->tbss_size, tls->tbss_size > 0},
        {"_tbss_align", &tls->tbss_align, tls->tbss_size > 0},
    };
    for (size_t i = 0; i < MYST_COUNT(symbols); i++)
        if (symbols[i].told && tell_symbol(layout, symbols[i].name, symbols[i].value, write, context, error) != 0)
            return -1;
    return 0;
}
