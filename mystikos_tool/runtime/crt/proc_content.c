#include "proc_content.h"

#include "../common/sizes.h"
#include "own_files.h"
#include "processes.h"
#include "users.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARED_MEMORY "/dev/shm"
#define LOADER "/ld-musl-"
#define FIELDS_OF_STAT 52

/* The call as if the process had made it. */
static struct myst_call call_of(const struct myst_call *call, pid_t process)
{
    struct myst_call other = *call;
    other.notification.pid = (uint32_t)process;
    return other;
}

/* The thread's name, which is main until the program gives it another one than its own. */
static void name_of(const struct myst_call *call, pid_t process, char name[16])
{
    char path[32], program[4096];
    snprintf(path, sizeof path, "%d/comm", (int)process);
    const int file = openat(call->application->proc, path, O_RDONLY | O_CLOEXEC);
    const ssize_t size = file < 0 ? -1 : read(file, name, 15);
    if (file >= 0)
        close(file);
    name[size > 0 ? size : 0] = 0;
    name[strcspn(name, "\n")] = 0;
    snprintf(path, sizeof path, "%d/exe", (int)process);
    const ssize_t length = readlinkat(call->application->proc, path, program, sizeof program - 1);
    program[length > 0 ? length : 0] = 0;
    const char *slash = strrchr(program, '/');
    if (strncmp(slash ? slash + 1 : program, name, strlen(name)) == 0)
        strcpy(name, "main");
}

static void write_status(FILE *to, const struct myst_call *of, pid_t process)
{
    char name[16];
    const struct myst_user user = myst_caller_user(of), group = myst_caller_group(of);
    name_of(of, process, name);
    fprintf(to, "Name:\t%s\nUmask:\t%04lo\nTgid:\t%d\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\n", name,
            (unsigned long)myst_call_status(of, "Umask:", 8) & 0777, (int)process, (int)process,
            (int)myst_parent_of(of));
    fprintf(to, "Uid:\t%u\t%u\t%u\t%u\n", user.real, user.effective, user.saved, user.file_system);
    fprintf(to, "Gid:\t%u\t%u\t%u\t%u\n", group.real, group.effective, group.saved, group.file_system);
}

static void write_stat(FILE *to, const struct myst_call *of, pid_t process)
{
    char name[16];
    name_of(of, process, name);
    fprintf(to, "%d (%s) R %d %d %d", (int)process, name, (int)myst_parent_of(of), (int)myst_group_of(of, process),
            (int)myst_session_of(process));
    for (int field = 7; field <= FIELDS_OF_STAT; field++)
        fputs(" 0", to);
    fputc('\n', to);
}

/* The system's lines, but for what is no memory of an enclave, and without the names that Linux makes up. */
static void write_maps(FILE *to, const struct myst_call *of, pid_t process)
{
    char path[32], line[4608];
    snprintf(path, sizeof path, "%d/maps", (int)process);
    const int file = openat(of->application->proc, path, O_RDONLY | O_CLOEXEC);
    FILE *from = file < 0 ? NULL : fdopen(file, "r");
    while (from && fgets(line, sizeof line, from))
    {
        char *name = line + strcspn(line, "/[\n");
        if (strncmp(name, "[v", 2) == 0)
            continue;
        if (*name == '[' || strstr(name, LOADER))
            strcpy(name, "\n");
        fputs(line, to);
    }
    if (from)
        fclose(from);
}

/* A new file that counts with the application's others, or -1. */
static int make_content(void (*write)(FILE *to, const struct myst_call *of, pid_t process), const struct myst_call *of,
                        pid_t process)
{
    char path[MYST_OWN_PATH];
    const int content = open(SHARED_MEMORY, O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
    FILE *to = content < 0 ? NULL : fdopen(content, "w");
    if (!to)
        return -1;
    write(to, of, process);
    myst_own_path(content, path);
    const int file = fflush(to) == 0 && !ferror(to) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    fclose(to);
    return file;
}

int myst_proc_content(const struct myst_call *call, pid_t process, const char *name)
{
    static const struct
    {
        const char *name;
        void (*write)(FILE *to, const struct myst_call *of, pid_t process);
    } files[] = {{"status", write_status}, {"stat", write_stat}, {"maps", write_maps}};
    const struct myst_call of = call_of(call, process);
    for (size_t i = 0; i < MYST_COUNT(files); i++)
        if (strcmp(files[i].name, name) == 0)
            return make_content(files[i].write, &of, process);
    return -1;
}
