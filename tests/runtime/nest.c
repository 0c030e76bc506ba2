/* Makes a directory in a directory and so on, without rights at the end, and links to the directory that is named. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int depth = 0;
    char template[] = "tmp/nestXXXXXX", *top = mkdtemp(template);
    if (argc != 2 || !top || chdir(top) != 0)
        return 1;
    /* Relative: absolute paths are the machine's for an ordinary user. */
    while (depth < 3000 && mkdir("directory", 0700) == 0 && symlink(argv[1], "link") == 0 && chdir("directory") == 0)
        depth++;
    printf("%d directories\n", depth);
    return chmod(".", 0);
}
