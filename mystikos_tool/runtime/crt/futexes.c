#include "futexes.h"

#include "notes.h"
#include "program.h"
#include "redirect.h"

#include <linux/futex.h>
#include <sys/syscall.h>

/* glibc waits so where the C library of Mystikos, which takes its place there, waits for a duration. */
int64_t myst_serve_futexes(const struct myst_call *call)
{
    const __u64 *a = call->notification.data.args;
    if (call->notification.data.nr != SYS_futex || !call->application->isolated || !myst_uses_musl(call))
        return MYST_CONTINUE;
    myst_note_use(MYST_USE_FUTEX_MOMENT);
    return myst_redirect(call, SYS_futex,
                         (const uint64_t[6]){a[0], FUTEX_WAIT | (a[1] & FUTEX_PRIVATE_FLAG), a[2], a[3], a[4], a[5]});
}
