#include "archive.h"

#include "../common/sizes.h"
#include "path.h"

#include <string.h>

#define HEADER_SIZE 110
#define MAGIC "070701"
#define TRAILER "TRAILER!!!"

/* The header's thirteen fields in their order, eight hexadecimal digits each after the magic. */
enum field
{
    FIELD_INO,
    FIELD_MODE,
    FIELD_UID,
    FIELD_GID,
    FIELD_NLINK,
    FIELD_MTIME,
    FIELD_FILESIZE,
    FIELD_DEVMAJOR,
    FIELD_DEVMINOR,
    FIELD_RDEVMAJOR,
    FIELD_RDEVMINOR,
    FIELD_NAMESIZE,
    FIELD_CHECK,
    FIELD_COUNT
};

/* Upper-case digits only, as the packager takes them. */
static int hex_value(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int parse_header(const unsigned char *header, uint32_t fields[FIELD_COUNT])
{
    if (memcmp(header, MAGIC, 6) != 0)
        return -1;
    header += 6;
    for (int i = 0; i < FIELD_COUNT; i++)
    {
        fields[i] = 0;
        for (int digit = 0; digit < 8; digit++)
        {
            int value = hex_value(*header++);
            if (value < 0)
                return -1;
            fields[i] = fields[i] << 4 | (uint32_t)value;
        }
    }
    return 0;
}

/* Gives the next `size` bytes and steps over them and their padding to a multiple of four. */
static const unsigned char *take(struct myst_archive *archive, size_t size)
{
    const unsigned char *data = archive->data + archive->at;
    if (size > archive->size - archive->at)
        return NULL;
    archive->at += size;
    size_t padding = -archive->at & 3;
    size_t left = archive->size - archive->at;
    archive->at += padding < left ? padding : left;
    return data;
}

int myst_archive_next(struct myst_archive *archive, struct myst_entry *entry, struct myst_error *error)
{
    static const char truncated[] = "%s: the archive is truncated";
    uint32_t fields[FIELD_COUNT];

    /* The name follows the header without padding between them. */
    if (archive->size - archive->at < HEADER_SIZE)
        return myst_fail(error, truncated, archive->name);
    if (parse_header(archive->data + archive->at, fields) != 0)
        return myst_fail(error, "%s: an archive entry has a malformed header", archive->name);
    archive->at += HEADER_SIZE;

    const uint32_t name_size = fields[FIELD_NAMESIZE];
    if (name_size < 2 || name_size > MYST_ENTRY_NAME_MAX)
        return myst_fail(error, "%s: an archive entry's name is empty or longer than 255 bytes", archive->name);
    entry->name = (const char *)take(archive, name_size);
    if (!entry->name)
        return myst_fail(error, truncated, archive->name);
    if (memchr(entry->name, 0, name_size) != entry->name + name_size - 1)
        return myst_fail(error, "%s: an archive entry's name does not end where it should", archive->name);

    entry->mode = fields[FIELD_MODE];
    entry->links = fields[FIELD_NLINK];
    entry->size = fields[FIELD_FILESIZE];
    entry->data = take(archive, entry->size);
    if (!entry->data)
        return myst_fail(error, truncated, archive->name);
    return strcmp(entry->name, TRAILER) != 0;
}

int myst_entry_path(const struct myst_entry *entry, char path[MYST_ENTRY_NAME_MAX])
{
    return *entry->name == '/' ? -1 : myst_path_components(entry->name, path, MYST_ENTRY_NAME_MAX);
}

int myst_archive_measure(struct myst_archive archive, struct myst_archive_totals *totals, struct myst_error *error)
{
    struct myst_entry entry;
    int result;
    memset(totals, 0, sizeof *totals);
    while ((result = myst_archive_next(&archive, &entry, error)) > 0)
    {
        totals->entries++;
        totals->bytes += myst_page_up(entry.size);
    }
    return result;
}
