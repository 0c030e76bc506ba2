#include "package.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_NAMES_SIZE (1u << 20)

const char *const myst_section_names[MYST_SECTIONS] = {
    ".mystenc", ".libmystcrt", ".libmystkernel", ".mystrootfs", ".mystpubkeys", ".mystroothashes", ".mystconfig",
};

static const char where[] = "package";

static int read_at(int fd, uint64_t offset, void *to, uint64_t size, struct myst_error *error)
{
    uint8_t *p = to;
    while (size > 0)
    {
        const ssize_t n = pread(fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return myst_fail(error, "%s: cannot be read: %s", where, strerror(errno));
        if (n == 0)
            return myst_fail(error, "%s: became shorter while it was read", where);
        p += n;
        offset += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

/* Gets the extents of the seven sections from the file's section headers. */
static int find_sections(struct myst_package *package, const struct myst_sections *sections, struct myst_error *error)
{
    const char *missing = NULL;
    int count = 0;
    for (int i = 0; i < MYST_SECTIONS; i++)
    {
        const char *name = myst_section_names[i];
        Elf64_Shdr header;
        const int found = myst_section_find(sections, where, name, &header, error);
        if (found < 0)
            return -1;
        if (found == MYST_ABSENT)
        {
            missing = name;
            continue;
        }
        if (header.sh_type != SHT_PROGBITS)
            return myst_fail(error, "%s: section %s is not of type PROGBITS", where, name);
        package->sections[i] = (struct myst_extent){header.sh_offset, header.sh_size};
        count++;
    }
    if (count == 0)
        return myst_fail(error, "%s: this is the loader; it holds no package", where);
    if (missing)
        return myst_fail(error, "%s: section %s is missing", where, missing);
    return 0;
}

/* Reads the section headers and their names into `tables`, which the caller frees, and searches. */
static int read_tables(struct myst_package *package, const struct myst_elf_tables *place, void **headers, void **names,
                       struct myst_error *error)
{
    struct myst_sections sections = {.file_size = package->size};
    if (!(*headers = malloc(place->headers_size)))
        return myst_fail(error, "%s: out of memory", where);
    if (read_at(package->fd, place->headers_offset, *headers, place->headers_size, error) != 0)
        return -1;
    sections.headers = *headers;
    sections.count = place->headers_size / sizeof(Elf64_Shdr);

    const Elf64_Shdr header = myst_section_header(&sections, place->names_index);
    if (header.sh_type == SHT_NOBITS || header.sh_size > MAX_NAMES_SIZE ||
        !myst_within(header.sh_offset, header.sh_size, package->size))
        return myst_fail(error, "%s: .shstrtab does not lie within the file", where);
    if (!(*names = malloc(header.sh_size + 1)))
        return myst_fail(error, "%s: out of memory", where);
    if (read_at(package->fd, header.sh_offset, *names, header.sh_size, error) != 0)
        return -1;
    sections.names = *names;
    sections.names_size = header.sh_size;
    return find_sections(package, &sections, error);
}

int myst_package_open(struct myst_package *package, int fd, struct myst_error *error)
{
    struct stat status;
    Elf64_Ehdr header;
    struct myst_elf_tables place;
    void *headers = NULL, *names = NULL;

    memset(package, 0, sizeof *package);
    package->fd = fd;
    if (fstat(fd, &status) != 0)
        return myst_fail(error, "%s: %s", where, strerror(errno));
    package->size = (uint64_t)status.st_size;
    if (package->size < sizeof header)
        return myst_fail(error, "%s: is not an ELF file", where);
    if (read_at(fd, 0, &header, sizeof header, error) != 0 ||
        myst_elf_check_header(&header, package->size, where, &place, error) != 0)
        return -1;
    const int result = read_tables(package, &place, &headers, &names, error);
    free(headers);
    free(names);
    return result;
}

int myst_package_read(const struct myst_package *package, enum myst_package_section section, uint64_t at, void *to,
                      uint64_t size, struct myst_error *error)
{
    const struct myst_extent *extent = &package->sections[section];
    if (!myst_within(at, size, extent->size))
        return myst_fail(error, "%s: section %s is too short", where, myst_section_names[section]);
    return read_at(package->fd, extent->offset + at, to, size, error);
}

int myst_package_copy(const struct myst_package *package, enum myst_package_section section, uint64_t limit,
                      struct myst_buffer *buffer, struct myst_error *error)
{
    const uint64_t size = package->sections[section].size;
    const char *name = myst_section_names[section];
    if (size == 0)
        return myst_fail(error, "%s: section %s is empty", where, name);
    if (size > limit)
        return myst_fail(error, "%s: section %s has more than %llu bytes", where, name, (unsigned long long)limit);
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return myst_fail(error, "%s: no memory for section %s: %s", where, name, strerror(errno));
    *buffer = (struct myst_buffer){data, size};
    return myst_package_read(package, section, 0, data, size, error);
}

void myst_buffer_free(struct myst_buffer *buffer)
{
    if (buffer->data)
        munmap(buffer->data, buffer->size);
    *buffer = (struct myst_buffer){NULL, 0};
}
