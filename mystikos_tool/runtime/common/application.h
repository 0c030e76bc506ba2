/* What the embedded kernel hands to the C runtime image: the application and what it may use. Found by the C
 * runtime image in its auxiliary vector under AT_MYST_APPLICATION. */
#ifndef MYST_APPLICATION_H
#define MYST_APPLICATION_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The working directory where the configuration has a path that is not absolute. */
#define MYST_NO_DIRECTORY "/.none"

#define AT_MYST_APPLICATION 0x4d595341

struct myst_file
{
    uint64_t device, inode; /* inode 0: none */
};

struct myst_application
{
    const char *package_name; /* for messages */
    const char *path;
    const char *working_directory;      /* as the configuration has it */
    char **arguments, **environment;    /* up to a NULL */
    uint64_t address_space, main_stack; /* limits in bytes */
    uint64_t thread_stack;              /* bytes; 0: as the program's C library has it */
    bool exec_stack, no_brk, limits_processors, fork_allowed;
    bool fork_waits;                 /* a process that forks waits until its child executes a program or ends */
    bool unhandled_enosys;           /* a call that Mystikos does not handle fails, instead of stopping the program */
    bool allow_unhandled;            /* such calls are the system's to serve or to refuse, as for a shell */
    bool isolated;                   /* in namespaces of its own: with process 1 of them, all ends */
    bool host_sockets;               /* HostUDS: Unix-domain sockets are those of the host */
    bool host_directories;           /* some are mounted, with whatever sockets are in them */
    bool trace;                      /* tell of refused system calls */
    bool quiet;                      /* do not tell what works here and not under Mystikos */
    bool may_look_into_children;     /* process 1 may, for all that the machine's settings say */
    bool as_linux;                   /* no call is made to do what Mystikos does */
    sigset_t signal_mask;            /* that the package was started with */
    bool stdio_was_closed[3];        /* true: the application gets this descriptor closed */
    struct myst_file given_files[3]; /* regular files of the host that are descriptors 0 to 2 */
    struct myst_file given_descriptors[3]; /* of any kind; of descriptors that were closed: none */
    uint64_t secret;                       /* known to the runtime alone */
    int port_binder;                       /* binds ports below 1024 (port_binder.h), or -1 */
    int file_limits;                       /* limits file systems in memory (file_limits.h), or -1 */
    int proc;                              /* /proc of the sandbox, where there is one; else -1 */
    pid_t process;                         /* of the application */
    int64_t started;                       /* seconds of CLOCK_MONOTONIC */
    int children;                          /* lists the children of process 1 where it is not isolated; may be -1 */
    int control;                           /* gives a byte for each signal to pass on; ends with the outer process */
};

#endif
