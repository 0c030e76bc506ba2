#include "write.h"

#include <errno.h>
#include <unistd.h>

int myst_write_all(int file, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0)
    {
        ssize_t written = write(file, at, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return -1;
        at += written;
        size -= (size_t)written;
    }
    return 0;
}
