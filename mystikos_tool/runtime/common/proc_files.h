/* What Mystikos shows of a process in /proc, and where that of Linux lies. */
#ifndef MYST_PROC_FILES_H
#define MYST_PROC_FILES_H

#include <sys/stat.h>

/* A directory of /proc that is not listed: /proc of Linux, with processes only. */
#define MYST_LINUX_PROC ".linux"

static const struct
{
    const char *name;
    unsigned mode; /* that lstat tells */
} myst_process_files[] = {{"exe", S_IFLNK | 0777},
                          {"fd", S_IFDIR | 01411},
                          {"maps", S_IFREG | 0400},
                          {"stat", S_IFREG | 0400},
                          {"status", S_IFREG | 0400}};

#endif
