#include "app_environment.h"

#include "../common/error.h"
#include "../common/json.h"
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "appenv.json"
#define MAX_SIZE (16u << 20)
#define MAX_VARIABLES 65536

static char *read_file(size_t *size)
{
    struct stat status;
    const int file = open(FILE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0 && errno == ENOENT)
        return NULL;
    if (file < 0 || fstat(file, &status) != 0)
        myst_refuse_errno("/" FILE_NAME ": cannot be opened");
    if (!S_ISREG(status.st_mode) || status.st_size > MAX_SIZE)
        myst_refuse("/" FILE_NAME ": is no file of up to 16 MiB");
    *size = (size_t)status.st_size;
    char *text = myst_allocated(malloc(*size + 1));
    if (read(file, text, *size) != (ssize_t)*size)
        myst_refuse_errno("/" FILE_NAME ": cannot be read");
    close(file);
    return text;
}

struct list
{
    char **items;
    size_t count;
};

static void append(struct list *list, char *variable)
{
    if (list->count == MAX_VARIABLES)
        myst_refuse("/" FILE_NAME ": has more than %d variables", MAX_VARIABLES);
    list->items = myst_allocated(realloc(list->items, (list->count + 2) * sizeof *list->items));
    list->items[list->count++] = variable;
    list->items[list->count] = NULL;
}

static bool is_joined(const char *variable)
{
    return strncmp(variable, "PATH=", 5) == 0 || strncmp(variable, "LD_LIBRARY_PATH=", 16) == 0;
}

/* As Mystikos looks for a variable: the first one that begins with the name, however it goes on. */
static size_t find(const struct list *list, const char *variable)
{
    const size_t length = strcspn(variable, "=");
    size_t i = 0;
    while (i < list->count && strncmp(list->items[i], variable, length) != 0)
        i++;
    return i;
}

/* What is found in the first place counts as not found. Another is joined, or stays as it is. */
static void add(struct list *list, const char *variable)
{
    char *joined;
    const size_t found = find(list, variable);
    if (found == 0 || found == list->count)
    {
        append(list, myst_allocated(strdup(variable)));
        return;
    }
    if (!is_joined(variable))
        return;
    if (asprintf(&joined, "%s:%s", list->items[found], strchr(variable, '=') + 1) < 0)
        myst_refuse("out of memory");
    list->items[found] = joined;
}

static int read_variables(struct myst_json *json, struct list *list)
{
    int result = 0;
    size_t count = 0;
    const char *variable;
    if (myst_json_expect(json, '[', "a list") != 0)
        return -1;
    for (; myst_json_next(json, ']', count, &result); count++)
    {
        if (myst_json_string(json, &variable) != 0)
            return -1;
        if (!strchr(variable, '='))
            return myst_json_fail(json, "\"%s\" has no =", variable);
        add(list, variable);
    }
    return result == 0 && count == 0 ? myst_json_fail(json, "the list is empty") : result;
}

static int read_document(struct myst_json *json, struct list *list)
{
    int result = 0;
    bool found = false;
    const char *key;
    if (myst_json_expect(json, '{', "an object") != 0)
        return -1;
    for (size_t i = 0; myst_json_next(json, '}', i, &result); i++)
    {
        if (myst_json_string(json, &key) != 0 || myst_json_expect(json, ':', "a colon") != 0)
            return -1;
        json->key = key;
        if (found || strcmp(key, "Env") != 0)
            return myst_json_fail(json, "there is Env, once, and nothing else");
        found = true;
        if (read_variables(json, list) != 0)
            return -1;
        json->key = NULL;
    }
    if (result != 0)
        return -1;
    return found && !myst_json_peek(json) ? 0 : myst_json_fail(json, "there must be Env, and nothing behind it");
}

char **myst_add_app_environment(char **environment)
{
    size_t size;
    struct list list = {0};
    struct myst_error error;
    char *text = read_file(&size);
    if (!text)
        return environment;
    for (; *environment; environment++)
        append(&list, *environment);
    struct myst_json json = {.start = text,
                             .at = text,
                             .end = text + size,
                             .text = myst_allocated(malloc(size + 1)),
                             .where = "/" FILE_NAME,
                             .error = &error};
    if (read_document(&json, &list) != 0)
        myst_refuse("%s", error.text);
    free(text);
    return list.items;
}
