#include "first_argument.h"

#include "redirect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_ARGUMENTS 32768

void myst_normalize_path(const char *path, char *to)
{
    size_t length = 0;
    while (*path)
    {
        path += strspn(path, "/");
        const size_t size = strcspn(path, "/");
        if (size == 2 && memcmp(path, "..", 2) == 0)
            while (length && to[--length] != '/')
                continue;
        else if (size && !(size == 1 && *path == '.'))
        {
            to[length++] = '/';
            memcpy(to + length, path, size);
            length += size;
        }
        path += size;
    }
    strcpy(to + length, length ? "" : "/");
}

/* The path as Mystikos passes it on: one that is not absolute begins at the caller's working directory. False where
 * there is no such path. */
static bool find_absolute(const struct myst_call *call, const char *path, char absolute[PATH_MAX])
{
    static char whole[2 * PATH_MAX];
    char link[32];
    if (*path == '/')
        return strlen(path) < PATH_MAX && strcpy(absolute, path);
    snprintf(link, sizeof link, "%d/cwd", (int)myst_call_thread(call));
    const ssize_t length = readlinkat(call->application->proc, link, whole, PATH_MAX - 1);
    if (length <= 0 || *whole != '/' || !*path || (size_t)length + 1 + strlen(path) >= PATH_MAX)
        return false;
    whole[length] = '/';
    strcpy(whole + length + 1, path);
    myst_normalize_path(whole, absolute);
    return true;
}

/* The pointers up to the NULL, which is left out; NULL where they cannot be read. */
static uint64_t *read_pointers(const struct myst_call *call, size_t *count)
{
    uint64_t at = myst_call_argument(call, 1), *pointers = calloc(MAX_ARGUMENTS, sizeof *pointers);
    for (*count = 0; pointers && *count < MAX_ARGUMENTS; ++*count, at += sizeof *pointers)
    {
        if (myst_call_read(call, at, &pointers[*count], sizeof *pointers) != 0)
            break;
        if (!pointers[*count])
            return pointers;
    }
    free(pointers);
    return NULL;
}

static bool begins_with(const struct myst_call *call, uint64_t address, const char *text)
{
    static char there[PATH_MAX];
    const size_t size = strlen(text) + 1;
    return myst_call_read(call, address, there, size) == 0 && memcmp(there, text, size) == 0;
}

int64_t myst_set_first_argument(const struct myst_call *call)
{
    static char path[PATH_MAX], absolute[PATH_MAX];
    uint64_t first;
    size_t count;
    if (call->notification.data.nr != SYS_execve || !call->application->isolated ||
        myst_call_read_path(call, myst_call_argument(call, 0), path) != 0 ||
        myst_call_read(call, myst_call_argument(call, 1), &first, sizeof first) != 0 || !first ||
        !find_absolute(call, path, absolute) || begins_with(call, first, absolute))
        return MYST_CONTINUE;
    uint64_t *pointers = read_pointers(call, &count);
    const int64_t result =
        pointers ? myst_redirect_with_first_argument(call, absolute, pointers, count) : MYST_CONTINUE;
    free(pointers);
    return result;
}
