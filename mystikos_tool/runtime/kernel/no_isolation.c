#include "no_isolation.h"

#include "../common/error.h"
#include "../common/interpreter.h"
#include "../common/sizes.h"
#include "command.h"
#include "path.h"
#include "remove.h"
#include "root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NAME "mystikos-root-"

/* Where a C library's linker looks by itself. */
static const char *const library_directories[] = {
    "/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib"};

void myst_no_isolation_check(const struct myst_config *config)
{
    if (config->mount_count > 0)
        myst_refuse("options: --myst-no-isolation: Mount of the configuration needs isolation");
    if (config->hostname)
        myst_refuse("options: --myst-no-isolation: Hostname of the configuration needs isolation");
    myst_warn("no isolation: the application sees and reaches what the user who starts it does: files, processes and "
              "devices of this machine");
}

__attribute__((format(printf, 1, 2))) static char *make_string(const char *format, ...)
{
    char *string;
    va_list arguments;
    va_start(arguments, format);
    int size = vasprintf(&string, format, arguments);
    va_end(arguments);
    return myst_allocated(size < 0 ? NULL : string);
}

/* The directory is in use as long as a process of the package has it open. */
static bool hold(const char *directory)
{
    const int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB) == 0;
}

/* True for what a package that was killed has left. */
static bool is_abandoned(int parent, const char *name)
{
    struct stat status;
    if (strncmp(name, NAME, strlen(NAME)) != 0 || strlen(name) != strlen(NAME) + 6)
        return false;
    const int descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const bool abandoned = descriptor >= 0 && fstat(descriptor, &status) == 0 && status.st_uid == geteuid() &&
                           (status.st_mode & 07777) == 0700 && flock(descriptor, LOCK_EX | LOCK_NB) == 0;
    if (descriptor >= 0)
        close(descriptor);
    return abandoned;
}

static void remove_abandoned(const char *parent)
{
    struct dirent *entry;
    DIR *directory = opendir(parent);
    while (directory && (entry = readdir(directory)))
    {
        if (!is_abandoned(dirfd(directory), entry->d_name))
            continue;
        char *path = make_string("%s/%s", parent, entry->d_name);
        myst_remove_directory(path);
        free(path);
    }
    if (directory)
        closedir(directory);
}

/* Where the root can be, in a new directory below `parent` that nobody else may enter, or NULL where there can be none
 * or no program can be started. */
static char *make_below(const char *parent)
{
    struct statvfs status;
    if (!parent || *parent != '/' || statvfs(parent, &status) != 0 || (status.f_flag & ST_NOEXEC))
        return NULL;
    char *above = make_string("%s/" NAME "XXXXXX", parent);
    if (!mkdtemp(above) || !hold(above))
    {
        free(above);
        return NULL;
    }
    remove_abandoned(parent);
    char *directory = make_string("%s/root", above);
    free(above);
    return mkdir(directory, 0755) == 0 ? directory : NULL;
}

static char *make_directory(const struct myst_handoff *handoff)
{
    const char *own = myst_find_variable(handoff->host.envp, "TMPDIR");
    const char *const places[] = {own ? strchr(own, '=') + 1 : NULL, "/tmp", "/var/tmp", "/dev/shm"};
    for (size_t i = 0; i < MYST_COUNT(places); i++)
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
    if (!handoff->host.root)
    {
        char *directory = make_directory(handoff);
        if (chdir(directory) != 0)
            myst_refuse_errno("cannot enter %s", directory);
        return directory;
    }
    myst_need_empty_directory(handoff->host.root);
    if (chdir(handoff->host.root) != 0)
        myst_refuse_errno("options: --myst-root: cannot enter %s", handoff->host.root);
    char *directory = getcwd(NULL, 0);
    if (!directory)
        myst_refuse_errno("cannot find the path of %s", handoff->host.root);
    return directory;
}

void myst_no_isolation_remove_root(const char *directory)
{
    char *above = make_string("%.*s", (int)(strrchr(directory, '/') - directory), directory);
    myst_remove_directory(above);
    free(above);
}

/* The dynamic linker of the ELF program, below the working directory, or NULL. */
static char *interpreter_of(const char *program)
{
    char path[PATH_MAX];
    int file = open(program, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return NULL;
    const bool found = myst_elf_interpreter(file, path);
    close(file);
    return found ? myst_path_resolve(path) : NULL;
}

static char *library_path(const char *directory)
{
    char *path = make_string("%s%s", directory, library_directories[0]);
    for (size_t i = 1; i < MYST_COUNT(library_directories); i++)
    {
        char *longer = make_string("%s:%s%s", path, directory, library_directories[i]);
        free(path);
        path = longer;
    }
    return path;
}

static void run_in_place(const char *directory, struct myst_application *application)
{
    char *program = myst_path_resolve(application->path), *interpreter = program ? interpreter_of(program) : NULL;
    if (!program)
        myst_refuse("cannot start %s: its links lead nowhere", application->path);
    application->path = make_string("%s/%s", directory, program);
    if (!interpreter)
        return;

    size_t count = 0;
    while (application->arguments[count])
        count++;
    char **arguments = myst_allocated(calloc(count + 4, sizeof *arguments)), **end = arguments;
    *end++ = make_string("%s/%s", directory, interpreter);
    *end++ = (char *)"--library-path";
    *end++ = library_path(directory);
    *end++ = (char *)application->path;
    memcpy(end, application->arguments + 1, (count - 1) * sizeof *end);
    application->path = arguments[0];
    application->arguments = arguments;
}

void myst_no_isolation_enter_root(const char *directory, const struct myst_config *config,
                                  struct myst_application *application)
{
    const char *start = config->current_working_directory;
    if (chroot(".") != 0)
    {
        myst_warn("no isolation: the root is %s, and absolute paths are this machine's", directory);
        run_in_place(directory, application);
        start = myst_path_resolve(start); /* below the working directory, which is the root's */
        if (start && !*start)
            return;
    }
    if (!start || chdir(start) != 0)
        myst_refuse_errno("configuration: CurrentWorkingDirectory: cannot enter %s", config->current_working_directory);
}
