/* The variables that the root's /appenv.json adds to the environment. The input is the file. */
#include "kernel/app_environment.h"
#include "refused.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST 4096 /* blocks of memory at once */

static int file = -1;
static void *blocks[MOST];
static size_t count;

/* What is refused ends the process, which frees nothing before: here it is freed behind each input. */
static void *keep(void *block)
{
    PROMISE(count < MOST);
    return blocks[count++] = block;
}

static void forget(const void *block)
{
    for (size_t i = count; i-- > 0;)
    {
        if (blocks[i] != block)
            continue;
        blocks[i] = blocks[--count];
        return;
    }
}

void *__real_malloc(size_t size);
void *__real_realloc(void *block, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *block, size_t size);
void __wrap_free(void *block);
char *__wrap_strdup(const char *text);
int __wrap_asprintf(char **text, const char *format, ...);
int __wrap_open(const char *path, int flags, ...);

void *__wrap_malloc(size_t size)
{
    return keep(__real_malloc(size));
}

void *__wrap_realloc(void *block, size_t size)
{
    forget(block);
    return keep(__real_realloc(block, size));
}

void __wrap_free(void *block)
{
    forget(block);
    __real_free(block);
}

char *__wrap_strdup(const char *text)
{
    const size_t size = strlen(text) + 1;
    return memcpy(__wrap_malloc(size), text, size);
}

int __wrap_asprintf(char **text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int size = vasprintf(text, format, arguments);
    va_end(arguments);
    keep(*text);
    return size;
}

int __wrap_open(const char *path, int flags, ...)
{
    PROMISE(strcmp(path, "appenv.json") == 0 && (flags & O_NOFOLLOW));
    const int opened = dup(file);
    lseek(opened, 0, SEEK_SET);
    return opened;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *given[] = {(char *)"FIRST=1", (char *)"PATH=/bin", (char *)"SECOND=2", NULL};
    if (file < 0)
        file = memfd_create("appenv.json", MFD_CLOEXEC);
    if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t)size)
        return 0;
    count = 0; /* the input may lie in a block of the caller's */
    if (setjmp(refused) == 0)
    {
        char **made = myst_add_app_environment(given);
        size_t variables = 0;
        for (; made[variables]; variables++)
            PROMISE(strchr(made[variables], '='));
        PROMISE(variables >= 3 && strcmp(made[0], given[0]) == 0 && strcmp(made[2], given[2]) == 0);
        PROMISE(strncmp(made[1], given[1], strlen(given[1])) == 0);
    }
    while (count > 0)
        __real_free(blocks[--count]);
    return 0;
}
