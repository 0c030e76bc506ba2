#include "elf.h"

#include <string.h>

/* A NUL-terminated string at `offset` of a string table equals `name`. */
static int name_is(const char *table, uint64_t table_size, uint64_t offset, const char *name)
{
    const size_t size = strlen(name) + 1;
    return myst_within(offset, size, table_size) && memcmp(table + offset, name, size) == 0;
}

int myst_elf_check_header(const Elf64_Ehdr *header, uint64_t file_size, const char *where,
                          struct myst_elf_tables *tables, struct myst_error *error)
{
    const unsigned char *ident = header->e_ident;
    if (memcmp(ident, ELFMAG, SELFMAG) != 0)
        return myst_fail(error, "%s: is not an ELF file", where);
    if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB || ident[EI_VERSION] != EV_CURRENT ||
        header->e_machine != EM_X86_64)
        return myst_fail(error, "%s: is not an ELF file for x86-64", where);
    if (header->e_ehsize != sizeof(Elf64_Ehdr))
        return myst_fail(error, "%s: e_ehsize is %u", where, header->e_ehsize);
    if (header->e_shnum == 0 || header->e_shentsize != sizeof(Elf64_Shdr))
        return myst_fail(error, "%s: has no section headers", where);
    if (header->e_phnum > 0 && header->e_phentsize != sizeof(Elf64_Phdr))
        return myst_fail(error, "%s: e_phentsize is %u", where, header->e_phentsize);
    tables->headers_offset = header->e_shoff;
    tables->headers_size = (uint64_t)header->e_shnum * sizeof(Elf64_Shdr);
    tables->names_index = header->e_shstrndx;
    if (!myst_within(tables->headers_offset, tables->headers_size, file_size))
        return myst_fail(error, "%s: section headers lie beyond the end of the file", where);
    if (!myst_within(header->e_phoff, (uint64_t)header->e_phnum * sizeof(Elf64_Phdr), file_size))
        return myst_fail(error, "%s: program headers lie beyond the end of the file", where);
    if (tables->names_index == SHN_UNDEF || tables->names_index >= header->e_shnum)
        return myst_fail(error, "%s: has no .shstrtab", where);
    return 0;
}

Elf64_Shdr myst_section_header(const struct myst_sections *sections, uint64_t index)
{
    Elf64_Shdr header;
    memcpy(&header, sections->headers + index * sizeof header, sizeof header);
    return header;
}

int myst_section_find(const struct myst_sections *sections, const char *where, const char *name, Elf64_Shdr *header,
                      struct myst_error *error)
{
    int found = MYST_ABSENT;
    for (uint64_t i = 1; i < sections->count; i++)
    {
        const Elf64_Shdr candidate = myst_section_header(sections, i);
        if (!name_is(sections->names, sections->names_size, candidate.sh_name, name))
            continue;
        if (found == MYST_PRESENT)
            return myst_fail(error, "%s: section %s is there twice", where, name);
        found = MYST_PRESENT;
        *header = candidate;
    }
    if (found == MYST_PRESENT && header->sh_type != SHT_NOBITS &&
        !myst_within(header->sh_offset, header->sh_size, sections->file_size))
        return myst_fail(error, "%s: section %s lies beyond the end of the file", where, name);
    return found;
}

int myst_elf_open(struct myst_elf *elf, const char *where, const void *data, uint64_t size, struct myst_error *error)
{
    struct myst_elf_tables tables;
    memset(elf, 0, sizeof *elf);
    elf->where = where;
    elf->data = data;
    elf->size = size;
    if (size < sizeof elf->header)
        return myst_fail(error, "%s: is not an ELF file", where);
    memcpy(&elf->header, data, sizeof elf->header);
    if (myst_elf_check_header(&elf->header, size, where, &tables, error) != 0)
        return -1;
    elf->sections.headers = elf->data + tables.headers_offset;
    elf->sections.count = elf->header.e_shnum;
    elf->sections.file_size = size;
    const Elf64_Shdr names = myst_section_header(&elf->sections, tables.names_index);
    if (names.sh_type == SHT_NOBITS || !myst_within(names.sh_offset, names.sh_size, size))
        return myst_fail(error, "%s: .shstrtab lies beyond the end of the file", where);
    elf->sections.names = (const char *)elf->data + names.sh_offset;
    elf->sections.names_size = names.sh_size;
    return 0;
}

int myst_elf_section(const struct myst_elf *elf, const char *name, Elf64_Shdr *header, const uint8_t **data,
                     uint64_t *size, struct myst_error *error)
{
    const int found = myst_section_find(&elf->sections, elf->where, name, header, error);
    const int empty = found != MYST_PRESENT || header->sh_type == SHT_NOBITS;
    *data = empty ? elf->data : elf->data + header->sh_offset;
    *size = empty ? 0 : header->sh_size;
    return found;
}

Elf64_Phdr myst_elf_program_header(const struct myst_elf *elf, uint64_t index)
{
    Elf64_Phdr header;
    memcpy(&header, elf->data + elf->header.e_phoff + index * sizeof header, sizeof header);
    return header;
}

int myst_elf_find_dynamic_symbol(const struct myst_elf *elf, const char *name, Elf64_Sym *symbol,
                                 struct myst_error *error)
{
    Elf64_Shdr header;
    const uint8_t *table, *names;
    uint64_t size, names_size;
    if (myst_elf_section(elf, ".dynsym", &header, &table, &size, error) < 0 ||
        myst_elf_section(elf, ".dynstr", &header, &names, &names_size, error) < 0)
        return -1;
    for (uint64_t i = 1; i < size / sizeof *symbol; i++)
    {
        memcpy(symbol, table + i * sizeof *symbol, sizeof *symbol);
        if (symbol->st_name != 0 && name_is((const char *)names, names_size, symbol->st_name, name))
            return MYST_PRESENT;
    }
    return MYST_ABSENT;
}
