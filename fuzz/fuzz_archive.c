/* The archive reader and the paths that come out of it. */
#include "common/sizes.h"
#include "fuzz.h"
#include "kernel/archive.h"

#include <string.h>

static void check_path(const char *path)
{
    PROMISE(memchr(path, 0, MYST_ENTRY_NAME_MAX) != NULL);
    while (*path)
    {
        const size_t length = strcspn(path, "/");
        PROMISE(length > 0 && !(length == 1 && path[0] == '.'));
        PROMISE(!(length == 2 && path[0] == '.' && path[1] == '.'));
        path += length;
        if (*path)
            PROMISE(*++path != 0);
    }
}

static void check_entry(const struct myst_entry *entry, const uint8_t *data, size_t size)
{
    const uint8_t *name = (const uint8_t *)entry->name;
    char path[MYST_ENTRY_NAME_MAX];
    PROMISE(name >= data && name + strlen(entry->name) < data + size);
    PROMISE(entry->data >= data && entry->size <= (size_t)(data + size - entry->data));
    if (myst_entry_path(entry, path) == 0)
        check_path(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct myst_archive archive = {.data = data, .size = size, .name = "archive"};
    struct myst_archive_totals totals;
    struct myst_entry entry;
    struct myst_error error;
    uint64_t entries = 0;
    int result;

    const int measured = myst_archive_measure(archive, &totals, &error);
    while ((result = myst_archive_next(&archive, &entry, &error)) > 0)
    {
        check_entry(&entry, data, size);
        entries++;
    }
    PROMISE(measured == result && totals.entries == entries);
    PROMISE(totals.bytes <= entries * MYST_PAGE + size);
    PROMISE(result == 0 || strncmp(error.text, "archive: ", 9) == 0);
    return 0;
}
