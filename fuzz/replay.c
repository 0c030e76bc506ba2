/* Gives each file that is named to the target, once: a corpus as a test. */
#include "fuzz.h"

#include <string.h>

/* Nothing is changed here; a target with a mutator of its own needs the name. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
    (void)data, (void)max_size;
    return size;
}

/* Into a block of just that size, so that a read beyond it is found. */
static void replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        exit(2);
    const size_t size = (size_t)ftell(file);
    uint8_t *data = malloc(size ? size : 1);
    rewind(file);
    if (!data || fread(data, 1, size, file) != size)
        exit(2);
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
    {
        fprintf(stderr, "%s\n", argv[i]);
        replay(argv[i]);
    }
    return 0;
}
