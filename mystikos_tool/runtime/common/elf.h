/* Reads ELF files that may be hostile: every offset, size and count is checked before it is used,
 * and nothing is trusted to be aligned. */
#ifndef MYST_ELF_H
#define MYST_ELF_H

#include "error.h"
#include "sizes.h"

#include <elf.h>
#include <stddef.h>
#include <stdint.h>

/* Where the section headers and their names are: of a file in memory, or of one on disk of which
 * only these two tables were read. */
struct myst_sections
{
    const uint8_t *headers; /* Elf64_Shdr, `count` of them */
    uint64_t count;
    const char *names; /* .shstrtab */
    uint64_t names_size;
    uint64_t file_size;
};

/* Position and size of the section headers and of .shstrtab, as the header has them. */
struct myst_elf_tables
{
    uint64_t headers_offset;
    uint64_t headers_size; /* at most 65535 * 64 */
    uint64_t names_index;
};

/* An ELF image in memory. */
struct myst_elf
{
    const char *where; /* begins messages */
    const uint8_t *data;
    uint64_t size;
    Elf64_Ehdr header;
    struct myst_sections sections;
};

enum myst_presence
{
    MYST_ABSENT = 0,
    MYST_PRESENT = 1
    /* and -1: refused */
};

/* Holds the file's header (the first sizeof(Elf64_Ehdr) bytes of a file of file_size) against what
 * an x86-64 ELF file has, and gets where its tables are. */
int myst_elf_check_header(const Elf64_Ehdr *header, uint64_t file_size, const char *where,
                          struct myst_elf_tables *tables, struct myst_error *error);

/* Gets header `index`, which must be below sections->count. */
Elf64_Shdr myst_section_header(const struct myst_sections *sections, uint64_t index);

/* Finds the section called `name`: MYST_ABSENT, MYST_PRESENT with its header, or -1 when it is there
 * twice or (unless SHT_NOBITS) does not lie within the file. */
int myst_section_find(const struct myst_sections *sections, const char *where, const char *name, Elf64_Shdr *header,
                      struct myst_error *error);

/* Opens an ELF file in memory. The bytes must outlive `elf`. */
int myst_elf_open(struct myst_elf *elf, const char *where, const void *data, uint64_t size, struct myst_error *error);

/* Like myst_section_find, and gets the content too: nothing for SHT_NOBITS. */
int myst_elf_section(const struct myst_elf *elf, const char *name, Elf64_Shdr *header, const uint8_t **data,
                     uint64_t *size, struct myst_error *error);

/* Gets program header `index`, below header.e_phnum. */
Elf64_Phdr myst_elf_program_header(const struct myst_elf *elf, uint64_t index);

/* Finds the first entry of .dynsym with this name. */
int myst_elf_find_dynamic_symbol(const struct myst_elf *elf, const char *name, Elf64_Sym *symbol,
                                 struct myst_error *error);

#endif
