#include "read.h"

#include <errno.h>
#include <unistd.h>

int myst_read_at(int file, void *to, size_t size, uint64_t offset)
{
    char *at = to;
    while (size > 0)
    {
        const ssize_t count = pread(file, at, size, (off_t)offset);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return -1;
        at += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return 0;
}
