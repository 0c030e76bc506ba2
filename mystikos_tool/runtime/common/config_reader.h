/* Reads the measured configuration (docs/formats.md section 3): the table of its keys, and their values. */
#ifndef MYST_CONFIG_READER_H
#define MYST_CONFIG_READER_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MYST_DEFAULT_MEMORY_SIZE (64ull << 20)
#define MYST_MAX_MOUNTS 32
#define MYST_DEFAULT_MAIN_STACK_SIZE (1568ull << 10)

enum myst_fork_mode
{
    MYST_FORK_NONE,
    MYST_FORK_PSEUDO,
    MYST_FORK_PSEUDO_WAIT
};

enum myst_mount_type
{
    MYST_MOUNT_EXT2,
    MYST_MOUNT_HOSTFS,
    MYST_MOUNT_RAMFS
};

struct myst_strings
{
    const char **items;
    size_t count;
};

struct myst_mount
{
    const char *target;
    unsigned type; /* enum myst_mount_type */
    struct myst_strings flags;
    const char *public_key, *root_hash; /* NULL when absent or null */
};

/* Sizes are in bytes, rounded up to a page. Strings are UTF-8 with their NUL; NULL when absent. */
struct myst_config
{
    bool debug, create_zero_base_enclave, no_brk, exec_stack, host_application_parameters, unhandled_syscall_enosys,
        host_uds;
    uint64_t product_id, security_version, enclave_start_address;
    uint64_t memory_size;       /* never 0: the default stands in */
    uint64_t main_stack_size;   /* never 0: the default stands in */
    uint64_t thread_stack_size; /* 0 when absent */
    uint64_t max_affinity_cpus; /* 0 when absent */
    const char *version, *application_path;
    const char *current_working_directory; /* never NULL */
    const char *hostname;
    struct myst_strings application_parameters, environment_variables, host_environment_variables;
    unsigned fork_mode; /* enum myst_fork_mode */
    unsigned syslog_level;
    struct myst_mount *mounts;
    size_t mount_count, secret_count;

    char *text; /* backs all strings */
};

/* Reads and checks all of it. Returns 0, or -1 with an error that names line and key. Free it with myst_config_free in
 * both cases. */
int myst_config_read(const char *json, size_t size, struct myst_config *config, struct myst_error *error);
void myst_config_free(struct myst_config *config);

#endif
