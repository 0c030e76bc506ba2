/* Reads configurations from stdin, each preceded by its size as 4 bytes, and prints for each what the kernel's
 * reader makes of it: one JSON value a line and field, then an empty line. */
#include "common/config_reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void print_string(const char *string)
{
    if (!string)
    {
        printf("null");
        return;
    }
    putchar('"');
    for (; *string; string++)
        if ((unsigned char)*string < 0x20 || *string == '"' || *string == '\\')
            printf("\\u%04x", (unsigned)*string);
        else
            putchar(*string);
    putchar('"');
}

static void print_strings(const struct myst_strings *strings)
{
    putchar('[');
    for (size_t i = 0; i < strings->count; i++)
    {
        if (i > 0)
            putchar(',');
        print_string(strings->items[i]);
    }
    putchar(']');
}

static void print_mounts(const struct myst_config *config)
{
    putchar('[');
    for (size_t i = 0; i < config->mount_count; i++)
    {
        const struct myst_mount *mount = &config->mounts[i];
        printf("%s[", i > 0 ? "," : "");
        print_string(mount->target);
        printf(",%u,", mount->type);
        print_strings(&mount->flags);
        putchar(',');
        print_string(mount->public_key);
        putchar(',');
        print_string(mount->root_hash);
        putchar(']');
    }
    putchar(']');
}

#define NUMBER(field) printf(#field " %" PRIu64 "\n", (uint64_t)config->field)
#define STRING(field) (printf(#field " "), print_string(config->field), putchar('\n'))
#define STRINGS(field) (printf(#field " "), print_strings(&config->field), putchar('\n'))

static void print_config(const struct myst_config *config)
{
    NUMBER(debug);
    NUMBER(product_id);
    NUMBER(security_version);
    NUMBER(create_zero_base_enclave);
    NUMBER(enclave_start_address);
    NUMBER(memory_size);
    NUMBER(main_stack_size);
    NUMBER(thread_stack_size);
    NUMBER(max_affinity_cpus);
    NUMBER(no_brk);
    NUMBER(exec_stack);
    STRING(application_path);
    NUMBER(host_application_parameters);
    STRINGS(application_parameters);
    STRINGS(environment_variables);
    STRINGS(host_environment_variables);
    STRING(current_working_directory);
    STRING(hostname);
    NUMBER(fork_mode);
    NUMBER(unhandled_syscall_enosys);
    NUMBER(host_uds);
    NUMBER(syslog_level);
    NUMBER(secret_count);
    printf("mounts ");
    print_mounts(config);
    putchar('\n');
}

/* Into a block of just that size, so that a read beyond it is found. */
static char *read_document(size_t *size)
{
    unsigned char prefix[4];
    if (fread(prefix, sizeof prefix, 1, stdin) != 1)
        return NULL;
    *size = prefix[0] | prefix[1] << 8 | prefix[2] << 16 | (size_t)prefix[3] << 24;
    char *json = malloc(*size ? *size : 1);
    if (!json || (*size > 0 && fread(json, *size, 1, stdin) != 1))
        exit(2);
    return json;
}

int main(void)
{
    char *json;
    size_t size;
    while ((json = read_document(&size)))
    {
        struct myst_config config;
        struct myst_error error;
        if (myst_config_read(json, size, &config, &error) == 0)
            print_config(&config);
        else
            (printf("error "), print_string(error.text), putchar('\n'));
        myst_config_free(&config);
        putchar('\n');
        fflush(stdout);
        free(json);
    }
    return 0;
}
