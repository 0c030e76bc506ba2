/* Resolves each argument but the first as a path in a root, the first, and prints what comes of it. */
#include "kernel/path.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 2 || chdir(argv[1]) != 0)
        return 2;
    for (argv += 2; *argv; argv++)
    {
        char *path = myst_path_resolve(*argv);
        printf("%s%c", path ? path : "?", 0);
        free(path);
    }
    return 0;
}
