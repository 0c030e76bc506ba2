#include "shared_memory.h"

#include "../common/sizes.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_OBJECTS 8192

static struct object
{
    uint64_t inode, size;
    bool is_met;
} objects[MAX_OBJECTS];

static size_t count;
static uint64_t largest; /* bytes asked for at once since the last look: what is new may have been unmapped in part */
static bool is_shared;

bool myst_makes_shared_memory(const struct myst_call *call)
{
    struct stat status;
    const uint64_t flags = myst_call_argument(call, 3);
    if (!(flags & MAP_SHARED))
        return false;
    if (flags & MAP_ANONYMOUS)
        return true;
    const int64_t file = myst_call_open_descriptor(call, (int)myst_call_argument(call, 4));
    const bool is_device = file >= 0 && fstat((int)file, &status) == 0 && S_ISCHR(status.st_mode); /* /dev/zero */
    if (file >= 0)
        close((int)file);
    return is_device;
}

void myst_expect_shared_memory(const struct myst_call *call)
{
    const uint64_t size = myst_page_up(myst_call_argument(call, 1));
    is_shared = true;
    if (size <= call->application->address_space && size > largest)
        largest = size;
}

bool myst_is_memory_shared(void)
{
    return is_shared;
}

void myst_begin_shared_memory(void)
{
    for (size_t i = 0; i < count; i++)
        objects[i].is_met = false;
}

/* What there is no room for is counted by each process that maps it, as nothing that the others could have. */
static void meet(uint64_t inode, uint64_t end)
{
    size_t at = 0;
    while (at < count && objects[at].inode != inode)
        at++;
    if (at == MAX_OBJECTS)
        return;
    if (at == count)
        objects[count++] = (struct object){.inode = inode, .size = largest};
    objects[at].is_met = true;
    if (objects[at].size < end)
        objects[at].size = end;
}

/* Lines of /proc/PID/maps (proc(5)), where Linux shows such memory as a file that was removed. */
uint64_t myst_measure_shared_memory(int proc, pid_t process)
{
    static const char name[] = "/dev/zero (deleted)\n";
    char path[32], line[512];
    uint64_t bytes = 0;
    snprintf(path, sizeof path, "%d/maps", (int)process);
    const int file = openat(proc, path, O_RDONLY | O_CLOEXEC);
    FILE *maps = file < 0 ? NULL : fdopen(file, "r");
    while (maps && fgets(line, sizeof line, maps))
    {
        unsigned long begin, end, offset, inode;
        const size_t length = strlen(line);
        if (length < sizeof name || strcmp(line + length - (sizeof name - 1), name) != 0 ||
            sscanf(line, "%lx-%lx %*s %lx %*s %lu", &begin, &end, &offset, &inode) != 4)
            continue;
        bytes += end - begin;
        meet(inode, offset + (end - begin));
    }
    if (maps)
        fclose(maps);
    return bytes;
}

uint64_t myst_end_shared_memory(void)
{
    uint64_t bytes = 0;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
    {
        if (!objects[i].is_met)
            continue;
        bytes += objects[i].size;
        objects[kept++] = objects[i];
    }
    count = kept;
    largest = 0;
    return bytes;
}
