/* What the configuration declares of mounts against what the command line gives. The input is a configuration and,
 * each behind a zero byte, the mounts that are given. */
#include "kernel/file_limits.h"
#include "kernel/mounts.h"
#include "kernel/served_disk.h"
#include "kernel/unpack_disk.h"
#include "refused.h"

#include <limits.h>
#include <string.h>

/* Nothing is mounted here; what reads disks has targets of its own. */
void myst_disk_open(struct myst_disk *disk, const char *path, const char *option, const struct myst_handoff *handoff)
{
    PROMISE(!disk && !path && !option && !handoff);
}

void myst_disk_close(struct myst_disk *disk)
{
    PROMISE(!disk);
}

void myst_limit_files_at(const char *path)
{
    PROMISE(!path);
}

bool myst_serve_disk(struct myst_disk *disk, const char *target, uint64_t bytes)
{
    PROMISE(!disk && !target && !bytes);
    return false;
}

void myst_unpack_disk(struct myst_disk *disk, int root, bool without_set_id)
{
    PROMISE(!disk && !root && !without_set_id);
}

/* Neither half of a mount is taken without the other, and nothing comes twice. */
static void check(const struct myst_config *config, const struct myst_handoff *handoff)
{
    PROMISE(config->mount_count == handoff->host.mount_count);
    for (size_t i = 0; i < config->mount_count; i++)
    {
        const struct myst_mount *mount = &config->mounts[i];
        PROMISE(!mount->public_key && !mount->root_hash);
        PROMISE(mount->type != MYST_MOUNT_EXT2 || mount->flags.count == 0);
        PROMISE(mount->target[0] == '/' && strlen(mount->target) < PATH_MAX);
    }
}

/* What the loader's options let through. */
static size_t read_given(char *at, const char *end, const char *given[MYST_HOST_MOUNTS])
{
    size_t count = 0;
    for (; at < end && count < MYST_HOST_MOUNTS; at += strlen(at) + 1)
        if (strstr(at, "=/") > at)
            given[count++] = at;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    const char *given[MYST_HOST_MOUNTS];
    static struct myst_config config;
    static struct myst_handoff handoff;
    struct myst_error error;
    PROMISE(text);
    memcpy(text, data, size);
    text[size] = 0;
    const size_t length = strlen(text);
    if (myst_config_read(text, length, &config, &error) == 0)
    {
        handoff.host.mount_count = length < size ? read_given(text + length + 1, text + size, given) : 0;
        handoff.host.mounts = given;
        if (setjmp(refused) == 0)
        {
            myst_check_mounts(&config, &handoff);
            check(&config, &handoff);
        }
    }
    myst_config_free(&config);
    free(text);
    return 0;
}
