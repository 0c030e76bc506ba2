/* measure_package PACKAGE [SIZE]: prints the MRENCLAVE that the loader computes, as hexadecimal digits. Given a
 * size, the file is cut to that many bytes once it is laid out. */
#include "loader/identity.h"
#include "loader/measure.h"
#include "loader/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static struct myst_layout layout;
    struct myst_package package;
    struct myst_memory memory;
    struct myst_error error;
    uint8_t mrenclave[32];
    char hex[65];
    const int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    if (fd < 0)
        return 2;
    int result = myst_package_open(&package, fd, &error);
    if (result == 0)
        result = myst_layout_read(&layout, &package, &error);
    if (argc > 2 && truncate(argv[1], atol(argv[2])) != 0)
        return 2;
    if (result != 0 || myst_memory_place(&memory, &layout, &error) != 0 ||
        myst_measure(&layout, &memory, mrenclave, &error) != 0)
    {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    myst_layout_free(&layout);
    myst_hex(mrenclave, hex);
    puts(hex);
    return 0;
}
