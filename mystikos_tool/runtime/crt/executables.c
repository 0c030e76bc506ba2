#include "executables.h"

#include "first_argument.h"
#include "scripts.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct executable
{
    pid_t process;
    bool is_certain; /* it has begun with it; else it was about to */
    char *path;
};

static struct executable *executables;
static size_t count;

static struct executable *find(pid_t process)
{
    for (size_t i = 0; i < count; i++)
        if (executables[i].process == process)
            return &executables[i];
    return NULL;
}

static void remember(pid_t process, const char *path)
{
    struct executable *entry = find(process);
    if (!entry)
    {
        struct executable *grown = realloc(executables, (count + 1) * sizeof *grown);
        if (!grown)
            return;
        executables = grown;
        entry = &executables[count++];
        *entry = (struct executable){.process = process};
    }
    free(entry->path);
    entry->path = strdup(path);
}

/* A call of execve may have failed: then the process runs another program than the one that was noted. */
static bool has_begun(const struct myst_application *application, struct executable *entry)
{
    struct stat noted, running;
    char link[32];
    if (entry->is_certain || !entry->path)
        return entry->path;
    snprintf(link, sizeof link, "%d/exe", (int)entry->process);
    entry->is_certain = stat(entry->path, &noted) == 0 && fstatat(application->proc, link, &running, 0) == 0 &&
                        noted.st_dev == running.st_dev && noted.st_ino == running.st_ino;
    return entry->is_certain;
}

/* The path, or that of the interpreter of the script which lies there, without `.` and `..`. */
static void name_program(const char *path, char name[PATH_MAX])
{
    static struct myst_script script;
    const int content = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    const bool is_script = content >= 0 && myst_script_words(content, &script) > 0;
    if (content >= 0)
        close(content);
    myst_normalize_path(is_script ? script.words[0] : path, name);
}

/* The application began with the program of the configuration. */
static struct executable *find_or_add(const struct myst_application *application, pid_t process)
{
    static char name[PATH_MAX];
    if (process == application->process && !find(process))
    {
        name_program(application->path, name);
        remember(process, name);
    }
    return find(process);
}

void myst_note_executable(const struct myst_call *call)
{
    static char path[PATH_MAX], name[PATH_MAX];
    struct executable *entry = find_or_add(call->application, myst_call_process(call));
    if (!call->application->isolated || call->notification.data.nr != SYS_execve ||
        (entry && has_begun(call->application, entry)) ||
        myst_call_read_path(call, myst_call_argument(call, 0), path) != 0 || *path != '/')
        return;
    name_program(path, name);
    remember(myst_call_process(call), name);
}

const char *myst_executable_of(const struct myst_application *application, pid_t process)
{
    struct executable *entry = find_or_add(application, process);
    return entry && has_begun(application, entry) ? entry->path : NULL;
}

void myst_forget_executable(pid_t process)
{
    struct executable *entry = find(process);
    if (!entry)
        return;
    free(entry->path);
    *entry = executables[--count];
}
