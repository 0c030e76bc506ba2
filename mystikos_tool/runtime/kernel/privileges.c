#include "privileges.h"

#include "../common/error.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* execve would give user 0 whatever the bounding set still has. */
static void empty_bounding_set(void)
{
    for (unsigned long capability = 0; capability < 64; capability++)
    {
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0)
            continue;
        if (errno == EINVAL && capability > 0)
            return; /* past the last one that this Linux knows */
        myst_refuse_errno("cannot drop capability %lu", capability);
    }
}

/* Takes the special rights of user 0 away for good. */
static void lock_secure_bits(void)
{
    const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                               SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                               SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) != 0)
        myst_refuse_errno("cannot set the secure bits");
}

/* `kept`: CAP_TO_MASK of each capability below 32 that stays. */
static void drop_capabilities(unsigned kept)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct rest[_LINUX_CAPABILITY_U32S_3];
    memset(rest, 0, sizeof rest);
    rest[0].effective = rest[0].permitted = kept;
    if (syscall(SYS_capset, &header, rest) != 0)
        myst_refuse_errno("cannot drop the capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        myst_refuse_errno("cannot forbid new privileges");
}

void myst_drop_own_privileges(void)
{
    drop_capabilities(0);
}

void myst_drop_privileges(void)
{
    empty_bounding_set();
    lock_secure_bits();
    drop_capabilities(0);
}

void myst_drop_privileges_but(unsigned capability)
{
    empty_bounding_set();
    lock_secure_bits();
    drop_capabilities(CAP_TO_MASK(capability));
}
