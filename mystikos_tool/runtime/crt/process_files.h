/* Texts that the system has of a process in /proc (proc(5)). */
#ifndef MYST_PROCESS_FILES_H
#define MYST_PROCESS_FILES_H

#include <stddef.h>
#include <sys/types.h>

/* Reads up to `room` - 1 bytes of the file `name` of the process or thread, and ends them with a zero. `proc`: /proc,
 * or -1. Returns how many these are, or -1. `name` is a constant: what was read last stays open, since opening takes
 * longer than reading. */
ssize_t myst_read_process_file(int proc, pid_t process, const char *name, char *text, size_t room);

/* What is behind the name in the text of a process's "stat", which may have anything in it: the fields from 3 on; NULL
 * where there is none. */
const char *myst_fields_of_stat(const char *text);

#endif
