/* unpack_archive ARCHIVE DIRECTORY: unpacks as the embedded kernel does. Directly behind the archive lies memory that
 * cannot be read. */
#include "common/sizes.h"
#include "kernel/unpack.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct myst_archive read_archive(const char *path)
{
    struct stat status;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &status) != 0)
        exit(2);
    const size_t size = (size_t)status.st_size, pages = myst_page_up(size);
    unsigned char *memory = mmap(NULL, pages + MYST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        exit(2);
    unsigned char *data = memory + pages - size;
    for (size_t got = 0; got < size;)
    {
        ssize_t n = read(file, data + got, size - got);
        if (n <= 0)
            exit(2);
        got += (size_t)n;
    }
    close(file);
    if (mprotect(memory, pages + MYST_PAGE, PROT_READ) != 0 || mprotect(memory + pages, MYST_PAGE, PROT_NONE) != 0)
        exit(2);
    return (struct myst_archive){.data = data, .size = size, .name = "root file system"};
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int root = open(argv[2], O_PATH | O_DIRECTORY);
    if (root < 0)
        return 2;
    umask(0);
    myst_unpack(read_archive(argv[1]), root);
    return 0;
}
