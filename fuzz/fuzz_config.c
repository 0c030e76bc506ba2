/* The configuration reader. */
#include "common/config_reader.h"
#include "common/sizes.h"
#include "fuzz.h"

#include <string.h>

static void check_strings(const struct myst_strings *strings)
{
    size_t total = 0;
    for (size_t i = 0; i < strings->count; i++)
        total += strlen(strings->items[i]) + 1;
    PROMISE(strings->count == 0 || total > 0);
}

static void check(const struct myst_config *config, size_t size)
{
    PROMISE(config->product_id < 65535 && config->security_version < 65535);
    PROMISE(config->memory_size > 0 && config->memory_size % MYST_PAGE == 0);
    PROMISE(config->main_stack_size > 0 && config->main_stack_size % MYST_PAGE == 0);
    PROMISE(config->thread_stack_size % MYST_PAGE == 0);
    PROMISE(config->enclave_start_address % MYST_PAGE == 0);
    PROMISE(config->application_path[0] == '/' && strlen(config->application_path) < size);
    PROMISE(config->current_working_directory[0] == '/');
    PROMISE(!config->hostname || strlen(config->hostname) < size);
    PROMISE(config->fork_mode <= MYST_FORK_PSEUDO_WAIT);
    check_strings(&config->application_parameters);
    check_strings(&config->environment_variables);
    check_strings(&config->host_environment_variables);
    for (size_t i = 0; i < config->mount_count; i++)
    {
        const struct myst_mount *mount = &config->mounts[i];
        PROMISE(mount->target[0] == '/' && mount->type <= MYST_MOUNT_RAMFS);
        PROMISE(!mount->public_key || strlen(mount->public_key) < size);
        PROMISE(!mount->root_hash || strlen(mount->root_hash) < size);
        check_strings(&mount->flags);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct myst_config config;
    struct myst_error error = {""};
    if (myst_config_read((const char *)data, size, &config, &error) == 0)
        check(&config, size);
    else
        PROMISE(strncmp(error.text, "configuration: line ", 20) == 0 && !strchr(error.text, '\n'));
    myst_config_free(&config);
    return 0;
}
