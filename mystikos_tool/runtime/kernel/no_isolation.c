#include "no_isolation.h"

#include "../common/refuse.h"
#include "command.h"
#include "root.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MAX_LINKS 40 /* as Linux follows in one path */

/* Where a C library's linker looks by itself. */
static const char *const library_directories[] = {
    "/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib"};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

void myst_no_isolation_check(const struct myst_config *config)
{
    if (config->mount_count > 0)
        myst_refuse("options: --myst-no-isolation: Mount of the configuration needs isolation");
    if (config->hostname)
        myst_refuse("options: --myst-no-isolation: Hostname of the configuration needs isolation");
    myst_warn("no isolation: the application sees and reaches what the user who starts it does: files, processes and "
              "devices of this machine");
}

__attribute__((noreturn)) static void refuse_out_of_memory(void)
{
    myst_refuse("out of memory");
}

__attribute__((format(printf, 1, 2))) static char *make_string(const char *format, ...)
{
    char *string;
    va_list arguments;
    va_start(arguments, format);
    int size = vasprintf(&string, format, arguments);
    va_end(arguments);
    if (size < 0)
        refuse_out_of_memory();
    return string;
}

/* A new directory below `parent`, or NULL where there can be none or no program can be started. */
static char *make_below(const char *parent)
{
    struct statvfs status;
    if (!parent || *parent != '/' || statvfs(parent, &status) != 0 || (status.f_flag & ST_NOEXEC))
        return NULL;
    char *directory = make_string("%s/mystikos-XXXXXX", parent);
    if (mkdtemp(directory))
        return directory;
    free(directory);
    return NULL;
}

static char *make_directory(const struct myst_handoff *handoff)
{
    const char *own = myst_find_variable(handoff->host_envp, "TMPDIR");
    const char *const places[] = {own ? strchr(own, '=') + 1 : NULL, "/tmp", "/var/tmp", "/dev/shm"};
    for (size_t i = 0; i < COUNT(places); i++)
    {
        char *directory = make_below(places[i]);
        if (directory)
            return directory;
    }
    myst_refuse("cannot make a directory for the root: neither TMPDIR nor /tmp, /var/tmp and /dev/shm can be written "
                "to and have programs started in them");
}

const char *myst_no_isolation_make_root(const struct myst_handoff *handoff)
{
    if (!handoff->host_root)
    {
        char *directory = make_directory(handoff);
        if (chdir(directory) != 0)
            myst_refuse_errno("cannot enter %s", directory);
        return directory;
    }
    myst_need_empty_directory(handoff->host_root);
    if (chdir(handoff->host_root) != 0)
        myst_refuse_errno("options: --myst-root: cannot enter %s", handoff->host_root);
    char *directory = getcwd(NULL, 0);
    if (!directory)
        myst_refuse_errno("cannot find the path of %s", handoff->host_root);
    return directory;
}

static void remove_at(int parent, const char *name)
{
    struct dirent *entry;
    /* Not even its owner may remove what is in a directory without its w. */
    if (unlinkat(parent, name, 0) == 0 || (errno != EISDIR && errno != EPERM))
        return;
    fchmodat(parent, name, 0700, 0);
    int descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = descriptor < 0 ? NULL : fdopendir(descriptor);
    while (directory && (entry = readdir(directory)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_at(descriptor, entry->d_name);
    if (directory)
        closedir(directory);
    unlinkat(parent, name, AT_REMOVEDIR);
}

void myst_no_isolation_remove_root(const char *directory)
{
    remove_at(AT_FDCWD, directory);
}

/* Follows links as they would lead if the working directory were the root; gives a path below it without links, or
 * NULL. */
static char *resolve(const char *path)
{
    char done[PATH_MAX] = "", left[PATH_MAX], link[PATH_MAX], next[PATH_MAX];
    if (strlen(path) >= sizeof left)
        return NULL;
    strcpy(left, path);
    for (int links = 0; *left;)
    {
        size_t slashes = strspn(left, "/"), length = strcspn(left + slashes, "/");
        char name[PATH_MAX];
        memcpy(name, left + slashes, length);
        name[length] = 0;
        memmove(left, left + slashes + length, strlen(left + slashes + length) + 1);
        if (length == 0 || strcmp(name, ".") == 0)
            continue;
        if (strcmp(name, "..") == 0)
        {
            char *slash = strrchr(done, '/');
            *(slash ? slash : done) = 0;
            continue;
        }
        if ((size_t)snprintf(next, sizeof next, "%s%s%s", done, *done ? "/" : "", name) >= sizeof next)
            return NULL;
        ssize_t size = readlink(next, link, sizeof link - 1);
        if (size < 0)
        {
            strcpy(done, next);
            continue;
        }
        link[size] = 0;
        if (++links > MAX_LINKS || strlen(link) + strlen(left) + 2 > sizeof left)
            return NULL;
        if (*link == '/')
            *done = 0;
        strcat(strcat(link, "/"), left);
        strcpy(left, link);
    }
    return make_string("%s", done);
}

/* PT_INTERP of the ELF program, below the working directory, or NULL. */
static char *interpreter_of(const char *program)
{
    Elf64_Ehdr header;
    Elf64_Phdr segment;
    char *interpreter = NULL;
    int file = open(program, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return NULL;
    if (pread(file, &header, sizeof header, 0) == sizeof header && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0)
        for (unsigned i = 0; i < header.e_phnum && !interpreter; i++)
        {
            char path[PATH_MAX] = "";
            off_t at = (off_t)(header.e_phoff + (uint64_t)i * sizeof segment);
            if (pread(file, &segment, sizeof segment, at) != sizeof segment || segment.p_type != PT_INTERP)
                continue;
            if (pread(file, path, sizeof path - 1, (off_t)segment.p_offset) > 0)
                interpreter = resolve(path);
        }
    close(file);
    return interpreter;
}

static char *library_path(const char *directory)
{
    char *path = make_string("%s%s", directory, library_directories[0]);
    for (size_t i = 1; i < COUNT(library_directories); i++)
    {
        char *longer = make_string("%s:%s%s", path, directory, library_directories[i]);
        free(path);
        path = longer;
    }
    return path;
}

static void run_in_place(const char *directory, struct myst_application *application)
{
    char *program = resolve(application->path), *interpreter = program ? interpreter_of(program) : NULL;
    if (!program)
        myst_refuse("cannot start %s: its links lead nowhere", application->path);
    application->path = make_string("%s/%s", directory, program);
    if (!interpreter)
        return;

    size_t count = 0;
    while (application->arguments[count])
        count++;
    char **arguments = calloc(count + 4, sizeof *arguments), **end = arguments;
    if (!arguments)
        refuse_out_of_memory();
    *end++ = make_string("%s/%s", directory, interpreter);
    *end++ = (char *)"--library-path";
    *end++ = library_path(directory);
    *end++ = (char *)application->path;
    memcpy(end, application->arguments + 1, (count - 1) * sizeof *end);
    application->path = arguments[0];
    application->arguments = arguments;
}

/* In place: the working directory is the root's. */
static void enter_directory(const char *path)
{
    char *directory = resolve(path);
    if (!directory || chdir(*directory ? directory : ".") != 0)
        myst_refuse_errno("configuration: CurrentWorkingDirectory: cannot enter %s", path);
    free(directory);
}

void myst_no_isolation_enter_root(const char *directory, const struct myst_config *config,
                                  struct myst_application *application)
{
    if (chroot(".") == 0)
    {
        if (chdir(config->current_working_directory) != 0)
            myst_refuse_errno("configuration: CurrentWorkingDirectory: cannot enter %s",
                              config->current_working_directory);
        return;
    }
    myst_warn("no isolation: the root is %s, and absolute paths are this machine's", directory);
    run_in_place(directory, application);
    enter_directory(config->current_working_directory);
}
