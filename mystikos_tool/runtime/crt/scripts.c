#include "scripts.h"

#include "../common/error.h"
#include "../common/interpreter.h"
#include "own_files.h"
#include "redirect.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_ARGUMENTS 32768
#define MUSL_LOADER "/lib/ld-musl-x86_64.so.1"

/* Fails where a process has the file open for writing. */
static bool is_open_for_writing(int content)
{
    const bool busy = fcntl(content, F_SETLEASE, F_RDLCK) != 0 && errno == EAGAIN;
    fcntl(content, F_SETLEASE, F_UNLCK);
    return busy;
}

size_t myst_script_words(int content, struct myst_script *script)
{
    size_t count = 0;
    const ssize_t size = pread(content, script->line, sizeof script->line - 1, 0);
    script->line[size > 0 ? size : 0] = 0;
    if (size <= 2 || memcmp(script->line, "#!", 2) != 0)
        return 0;
    script->line[strcspn(script->line, "\n")] = 0;
    for (char *word = strtok(script->line + 2, " \t\r"); word && count < MYST_SCRIPT_WORDS;
         word = strtok(NULL, " \t\r"))
        script->words[count++] = word;
    return count;
}

static bool is_missing(const struct myst_call *call, const char *path)
{
    const int64_t file = myst_call_open(call, AT_FDCWD, path, 0);
    if (file >= 0)
        close((int)file);
    return file == -ENOENT;
}

/* A string of the caller, or NULL. */
static char *read_string(const struct myst_call *call, uint64_t address)
{
    size_t size = 0, room = 0;
    char *text = NULL, *grown;
    do
    {
        const size_t part = 256 - (address + size) % 256;
        if (size + part > room)
        {
            room = 2 * room + 1024;
            if (!(grown = realloc(text, room)))
                break;
            text = grown;
        }
        if (myst_call_read(call, address + size, text + size, part) != 0)
            break;
        if (memchr(text + size, 0, part))
            return text;
        size += part;
    } while (room < (16u << 20));
    free(text);
    return NULL;
}

static void free_all(char **strings)
{
    for (size_t i = 0; strings && strings[i]; i++)
        free(strings[i]);
    free(strings);
}

/* The words, the script, and the call's own arguments behind the first. */
static char **arguments_of(const struct myst_call *call, char *const *words, size_t count)
{
    uint64_t address, at = myst_call_argument(call, 1);
    char **list = calloc(MYST_SCRIPT_WORDS + MAX_ARGUMENTS + 2, sizeof *list);
    size_t size = 0;
    bool complete = list && myst_call_read(call, at, &address, sizeof address) == 0;
    for (; complete && size < count; complete = list[size++])
        list[size] = strdup(words[size]);
    if (complete)
        complete = (list[size++] = read_string(call, myst_call_argument(call, 0)));
    while (complete && address && size < MYST_SCRIPT_WORDS + MAX_ARGUMENTS)
    {
        at += sizeof address;
        complete = myst_call_read(call, at, &address, sizeof address) == 0;
        if (complete && address)
            complete = (list[size++] = read_string(call, address));
    }
    if (complete)
        return list;
    free_all(list);
    return NULL;
}

/* Mystikos has let go of the former program when it finds that there is no interpreter. */
static int64_t end_without_interpreter(const struct myst_call *call, const char *interpreter)
{
    myst_note("stopped", "cannot start a script: its interpreter %s is not in the root", interpreter);
    return myst_call_process(call) == call->application->process ? MYST_NOT_STARTED : myst_redirect_to_exit(call, 1);
}

static int64_t prepare_script(const struct myst_call *call, int content, const struct myst_script *script, size_t count)
{
    if (is_missing(call, script->words[0]))
        return end_without_interpreter(call, script->words[0]);
    if (count <= 2 && !is_open_for_writing(content))
        return MYST_CONTINUE;
    char **arguments = arguments_of(call, script->words, count);
    const int64_t result =
        arguments ? myst_redirect_to_program(call, script->words[0], arguments, myst_call_argument(call, 2))
                  : MYST_CONTINUE;
    free_all(arguments);
    return result;
}

/* Only the root's own file system is changed. */
static bool is_in_root(int file)
{
    struct stat status, root;
    return fstat(file, &status) == 0 && stat("/", &root) == 0 && status.st_dev == root.st_dev;
}

static bool copy_content(int from, int to)
{
    ssize_t size;
    while ((size = sendfile(to, from, NULL, 1u << 20)) > 0)
        continue;
    return size == 0;
}

/* Puts a copy in the place of the file, which nobody has open for writing. */
static void replace(int content)
{
    char link[MYST_OWN_PATH], path[PATH_MAX], copy[PATH_MAX + 8];
    struct stat status;
    myst_own_path(content, link);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || fstat(content, &status) != 0)
        return;
    path[length] = 0;
    snprintf(copy, sizeof copy, "%s.XXXXXX", path);
    const int file = mkostemp(copy, O_CLOEXEC);
    if (file < 0)
        return;
    const bool copied = copy_content(content, file) && fchmod(file, status.st_mode & 07777) == 0;
    close(file);
    if (!copied || rename(copy, path) != 0)
        unlink(copy);
}

static void make_parents(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/'))
    {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
}

static bool is_absent(const char *path)
{
    return access(path, F_OK) != 0 && errno == ENOENT;
}

void myst_provide_interpreter(int content)
{
    char interpreter[PATH_MAX];
    if (!is_in_root(content) || !myst_elf_interpreter(content, interpreter) || *interpreter != '/' ||
        !is_absent(interpreter) || is_absent(MUSL_LOADER))
        return;
    make_parents(interpreter);
    const int result = symlink(MUSL_LOADER, interpreter);
    (void)result; /* what the system says of the program tells */
}

static void prepare_program(const struct myst_call *call, int content)
{
    if (!call->application->isolated)
        return;
    if (is_in_root(content) && is_open_for_writing(content))
        replace(content);
    myst_provide_interpreter(content);
}

static int64_t prepare(const struct myst_call *call, int content)
{
    struct myst_script script;
    Elf64_Ehdr header;
    const size_t count = myst_script_words(content, &script);
    if (count > 0)
        return call->notification.data.nr == SYS_execve ? prepare_script(call, content, &script, count) : MYST_CONTINUE;
    if (pread(content, &header, sizeof header, 0) == sizeof header && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0)
        prepare_program(call, content);
    return MYST_CONTINUE;
}

int64_t myst_prepare_content(const struct myst_call *call, int file)
{
    char path[MYST_OWN_PATH];
    myst_own_path(file, path);
    const int content = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (content < 0)
        return MYST_CONTINUE;
    const int64_t result = prepare(call, content);
    close(content);
    return result;
}
