/* What is read of an ELF image: enclave image, kernel or C runtime. */
#include "fuzz.h"
#include "loader/image.h"

#include <string.h>

static unsigned char sum;

/* Touches every byte. */
static void touch(const uint8_t *data, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        sum ^= data[i];
}

static void check_table(const struct myst_table *table)
{
    PROMISE(table->pages_size % MYST_PAGE == 0 && table->size <= table->pages_size);
    PROMISE(table->size == 0 || table->data);
    touch(table->data, table->size);
}

static void check_loads(const struct myst_image *image)
{
    uint64_t end = 0;
    PROMISE(image->load_count > 0 && image->size > 0 && image->size % MYST_PAGE == 0);
    for (unsigned i = 0; i < image->load_count; i++)
    {
        const Elf64_Phdr *load = &image->loads[i];
        uint8_t byte;
        struct myst_error error;
        PROMISE(load->p_vaddr / MYST_PAGE * MYST_PAGE >= end && load->p_filesz <= load->p_memsz);
        end = load->p_vaddr + load->p_memsz;
        PROMISE(end <= image->size);
        touch(image->elf.data + load->p_offset, load->p_filesz);
        PROMISE(load->p_memsz == 0 || myst_image_covers(image, end - 1, 1));
        PROMISE(load->p_filesz == 0 || myst_image_read(image, load->p_vaddr, &byte, 1, &error) == 0);
    }
    PROMISE(!myst_image_covers(image, image->size, 1));
    PROMISE(image->elf.header.e_entry < image->size);
}

static void check_relocations(const struct myst_image *image, int with_plt, uint32_t accepted)
{
    struct myst_table table;
    struct myst_error error;
    if (myst_image_relocations(image, with_plt, accepted, &table, &error) == 0)
    {
        check_table(&table);
        PROMISE(table.size % sizeof(Elf64_Rela) == 0);
    }
    myst_table_free(&table);
}

static void check_tables(const struct myst_image *image)
{
    static const char *const names[] = {".symtab", ".dynsym", ".strtab", ".dynstr", ".mystconfig"};
    struct myst_table table;
    struct myst_error error;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    {
        for (int with_following = 0; with_following < 2; with_following++)
            if (myst_image_section(image, names[i], with_following, &table, &error) == 0)
                check_table(&table);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct myst_image image;
    struct myst_error error;
    struct myst_tls tls;
    Elf64_Sym symbol;
    if (myst_image_open(&image, "image", data, size, &error) != 0)
    {
        PROMISE(strncmp(error.text, "image: ", 7) == 0);
        return 0;
    }
    check_loads(&image);
    check_relocations(&image, 1, MYST_ENCLAVE_RELOCATIONS);
    check_relocations(&image, 0, MYST_KERNEL_RELOCATIONS);
    check_tables(&image);
    if (myst_image_tls(&image, &tls, &error) == 0)
        PROMISE(tls.pages_size % MYST_PAGE == 0 && tls.pages_size >= tls.tdata_size);
    (void)myst_elf_find_dynamic_symbol(&image.elf, "_enclave_rva", &symbol, &error);
    (void)myst_elf_find_dynamic_symbol(&image.elf, "_tbss_align", &symbol, &error);
    return 0;
}
