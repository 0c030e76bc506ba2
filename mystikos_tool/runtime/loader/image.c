#include "image.h"

#include <stdlib.h>
#include <string.h>

/* Holds a PT_LOAD against the file and the one before it. */
static int check_load(const struct myst_image *image, const Elf64_Phdr *load, uint64_t previous_end,
                      struct myst_error *error)
{
    const char *where = image->elf.where;
    if (load->p_filesz > load->p_memsz || !myst_within(load->p_offset, load->p_filesz, image->elf.size))
        return myst_fail(error, "%s: a PT_LOAD lies beyond the end of the file", where);
    if (!myst_within(load->p_vaddr, load->p_memsz, MYST_MAX_IMAGE_SIZE))
        return myst_fail(error, "%s: a PT_LOAD lies beyond 1 GiB", where);
    if (image->load_count == 0 && load->p_vaddr != 0)
        return myst_fail(error, "%s: the first PT_LOAD does not start at address 0", where);
    if (previous_end > (load->p_vaddr & ~(MYST_PAGE - 1)))
        return myst_fail(error, "%s: PT_LOADs share a page or are out of order", where);
    return 0;
}

int myst_image_open(struct myst_image *image, const char *where, const void *data, uint64_t size,
                    struct myst_error *error)
{
    uint64_t end = 0;
    memset(image, 0, sizeof *image);
    if (myst_elf_open(&image->elf, where, data, size, error) != 0)
        return -1;
    if (image->elf.header.e_type != ET_DYN)
        return myst_fail(error, "%s: is not a shared object or PIE", where);
    for (unsigned i = 0; i < image->elf.header.e_phnum; i++)
    {
        const Elf64_Phdr header = myst_elf_program_header(&image->elf, i);
        if (header.p_type != PT_LOAD)
            continue;
        if (image->load_count == MYST_MAX_LOADS)
            return myst_fail(error, "%s: has more than %d PT_LOADs", where, MYST_MAX_LOADS);
        if (check_load(image, &header, end, error) != 0)
            return -1;
        end = header.p_vaddr + header.p_memsz;
        image->loads[image->load_count++] = header;
    }
    if (end == 0)
        return myst_fail(error, "%s: has nothing to load", where);
    image->size = myst_page_up(end);
    if (image->elf.header.e_entry >= image->size)
        return myst_fail(error, "%s: the entry point lies outside of the image", where);
    return 0;
}

int myst_image_covers(const struct myst_image *image, uint64_t rva, uint64_t size)
{
    for (unsigned i = 0; i < image->load_count; i++)
    {
        const Elf64_Phdr *load = &image->loads[i];
        if (rva >= load->p_vaddr && myst_within(rva - load->p_vaddr, size, load->p_memsz))
            return 1;
    }
    return 0;
}

int myst_image_read(const struct myst_image *image, uint64_t rva, void *to, uint64_t size, struct myst_error *error)
{
    for (unsigned i = 0; i < image->load_count; i++)
    {
        const Elf64_Phdr *load = &image->loads[i];
        if (rva >= load->p_vaddr && myst_within(rva - load->p_vaddr, size, load->p_filesz))
        {
            memcpy(to, image->elf.data + load->p_offset + (rva - load->p_vaddr), size);
            return 0;
        }
    }
    return myst_fail(error, "%s: address 0x%llx is not in the file", image->elf.where, (unsigned long long)rva);
}

/* Checks each entry's type. The addend of a TPOFF64 becomes its symbol's value, so that nobody has
 * to look up symbols in the enclave. */
static int fix_relocations(const struct myst_image *image, uint32_t accepted, uint8_t *entries, uint64_t size,
                           struct myst_error *error)
{
    const char *where = image->elf.where;
    Elf64_Shdr header;
    const uint8_t *symbols;
    uint64_t symbols_size;
    if (myst_elf_section(&image->elf, ".dynsym", &header, &symbols, &symbols_size, error) < 0)
        return -1;
    for (uint64_t at = 0; at < size; at += sizeof(Elf64_Rela))
    {
        Elf64_Rela entry;
        Elf64_Sym symbol;
        memcpy(&entry, entries + at, sizeof entry);
        const uint64_t type = ELF64_R_TYPE(entry.r_info), index = ELF64_R_SYM(entry.r_info);
        if (type > 31 || !(accepted >> type & 1))
            return myst_fail(error, "%s: relocation type %llu is not supported", where, (unsigned long long)type);
        if (type != R_X86_64_TPOFF64)
            continue;
        if (index >= symbols_size / sizeof symbol)
            return myst_fail(error, "%s: a relocation's symbol does not exist", where);
        memcpy(&symbol, symbols + index * sizeof symbol, sizeof symbol);
        entry.r_addend = (Elf64_Sxword)symbol.st_value;
        memcpy(entries + at, &entry, sizeof entry);
    }
    return 0;
}

int myst_image_relocations(const struct myst_image *image, int with_plt, uint32_t accepted, struct myst_table *table,
                           struct myst_error *error)
{
    static const char *const names[] = {".rela.dyn", ".rela.plt"};
    const uint8_t *data[2] = {NULL, NULL};
    uint64_t sizes[2] = {0, 0};
    int present[2] = {MYST_ABSENT, MYST_ABSENT};
    memset(table, 0, sizeof *table);
    for (int i = 0; i < 1 + !!with_plt; i++)
    {
        Elf64_Shdr header;
        present[i] = myst_elf_section(&image->elf, names[i], &header, &data[i], &sizes[i], error);
        if (present[i] < 0)
            return -1;
        if (present[i] && (header.sh_entsize != sizeof(Elf64_Rela) || sizes[i] % sizeof(Elf64_Rela) != 0))
            return myst_fail(error, "%s: %s is not a table of RELA entries", image->elf.where, names[i]);
    }
    const uint64_t size = sizes[0] + sizes[1]; /* each is at most the file's size */
    /* Without a .rela.dyn, though not with an empty one, .rela.plt does not count. */
    if (!present[0] || size == 0)
        return 0;
    uint8_t *entries = malloc(size);
    if (!entries)
        return myst_fail(error, "%s: no memory for its relocations", image->elf.where);
    memcpy(entries, data[0], sizes[0]);
    memcpy(entries + sizes[0], data[1] ? data[1] : data[0], sizes[1]);
    *table = (struct myst_table){entries, size, myst_page_up(size)};
    return fix_relocations(image, accepted, entries, size, error);
}

void myst_table_free(struct myst_table *table)
{
    free((void *)(uintptr_t)table->data);
    memset(table, 0, sizeof *table);
}

int myst_image_section(const struct myst_image *image, const char *name, int with_following, struct myst_table *table,
                       struct myst_error *error)
{
    Elf64_Shdr header;
    const uint8_t *data;
    uint64_t size;
    const int found = myst_elf_section(&image->elf, name, &header, &data, &size, error);
    if (found == MYST_ABSENT)
        return myst_fail(error, "%s: has no section %s", image->elf.where, name);
    if (found < 0)
        return -1;
    const uint64_t pages_size = myst_page_up(size), rest = image->elf.size - (uint64_t)(data - image->elf.data);
    if (with_following)
        size = pages_size < rest ? pages_size : rest;
    *table = (struct myst_table){size ? data : NULL, size, pages_size};
    return 0;
}

static int align_up(uint64_t size, uint64_t align, uint64_t *result)
{
    const uint64_t step = align ? align : 1;
    if (size > MYST_MAX_ENCLAVE_SIZE || step > MYST_MAX_ENCLAVE_SIZE)
        return -1;
    *result = (size + step - 1) / step * step;
    return 0;
}

int myst_image_tls(const struct myst_image *image, struct myst_tls *tls, struct myst_error *error)
{
    const struct myst_elf *elf = &image->elf;
    Elf64_Shdr data, zeros;
    uint64_t data_size = 0, zeros_size = 0;
    memset(tls, 0, sizeof *tls);
    const int has_data = myst_section_find(&elf->sections, elf->where, ".tdata", &data, error);
    const int has_zeros = has_data < 0 ? -1 : myst_section_find(&elf->sections, elf->where, ".tbss", &zeros, error);
    if (has_zeros < 0)
        return -1;
    if (has_data == MYST_PRESENT && data.sh_size > 0)
    {
        tls->tdata_rva = data.sh_addr;
        tls->tdata_size = data.sh_size;
        tls->tdata_align = data.sh_addralign;
    }
    if (has_zeros == MYST_PRESENT && zeros.sh_size > 0)
    {
        tls->tbss_size = zeros.sh_size;
        tls->tbss_align = zeros.sh_addralign;
    }
    /* PT_TLS has the alignment that code is compiled for, which can be more than the section's. */
    for (unsigned i = 0; i < elf->header.e_phnum; i++)
    {
        const Elf64_Phdr header = myst_elf_program_header(elf, i);
        if (header.p_type == PT_TLS && tls->tdata_size > 0 && header.p_vaddr == tls->tdata_rva)
        {
            tls->tdata_align = header.p_align;
            break;
        }
    }
    if (align_up(tls->tdata_size, tls->tdata_align, &data_size) != 0 ||
        align_up(tls->tbss_size, tls->tbss_align, &zeros_size) != 0)
        return myst_fail(error, "%s: its thread-local data is too large", elf->where);
    tls->pages_size = myst_page_up(data_size + zeros_size);
    return 0;
}
