/* bin/myst: the host program of a package. It lays the enclave out in memory, measures it, holds it
 * against its signature by the rules of EINIT, and enters it. Nothing of the package runs before.
 *
 * It is itself outside of what is measured, as the host program is on SGX hardware. */
#include "../common/host.h"
#include "../common/start.h"
#include "../common/version.h"
#include "einit.h"
#include "identity.h"
#include "measure.h"
#include "memory.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define STACK_SIZE (256u << 10) /* bytes that the runtime needs */

/* The last component of argv[0], fit to be printed. */
static const char *program_name(const char *argv0)
{
    static char name[256];
    const char *slash = strrchr(argv0, '/');
    snprintf(name, sizeof name, "%s", slash ? slash + 1 : argv0);
    myst_replace_controls(name);
    return name[0] ? name : "myst";
}

/* The file that is running, wherever it was started from and whatever has its name by now. */
static int open_self(struct myst_error *error)
{
    const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return myst_fail(error, "package: /proc/self/exe cannot be opened: %s", strerror(errno));
    return fd;
}

static int check_signer(const struct myst_options *options, const uint8_t mrsigner[32], struct myst_error *error)
{
    char hex[65];
    myst_hex(mrsigner, hex);
    if (options->has_signer && memcmp(options->signer, mrsigner, sizeof options->signer) != 0)
        return myst_fail(error, "MRSIGNER: is %s, not what --myst-signer demands", hex);
    return 0;
}

/* Signature and signer, before anything that takes long or much memory. */
static int check_origin(const struct myst_layout *layout, const struct myst_options *options, uint8_t mrsigner[32],
                        struct myst_error *error)
{
    myst_mrsigner(&layout->record.sigstruct, mrsigner);
    if (myst_check_signature(&layout->record.sigstruct, error) != 0)
        return -1;
    return check_signer(options, mrsigner, error);
}

/* All of the enclave that has to be gone through lies in memory, or is hashed at some cost. */
static int check_size(const struct myst_layout *layout, struct myst_error *error)
{
    const uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * MYST_PAGE, enclave = layout->loaded_size;
    if (enclave / 2 <= machine)
        return 0;
    return myst_fail(error, "package: the enclave is laid out in %llu MiB, more than twice this machine's memory",
                     (unsigned long long)(enclave >> 20));
}

/* Lays the package out, measures it and checks it. */
static int load(struct myst_layout *layout, struct myst_memory *memory, const struct myst_package *package,
                const struct myst_options *options, uint8_t mrsigner[32], struct myst_error *error)
{
    if (myst_layout_read(layout, package, error) != 0 || check_origin(layout, options, mrsigner, error) != 0 ||
        check_size(layout, error) != 0 || myst_memory_place(memory, layout, error) != 0)
        return -1;
    struct myst_secs secs = myst_secs_of(&layout->record);
    if (myst_measure(layout, memory, secs.mrenclave, error) != 0)
        return -1;
    return myst_einit(&layout->record.sigstruct, &secs, &layout->record, error);
}

/* Enters the enclave at its entry point, on the stack of its first thread. Comes back only to tell what is wrong. */
static const char *enter(uint8_t *entry, uint8_t *tcs, uint8_t *stack_top, const struct myst_host *host)
{
    const char *problem;
    /* As EENTER does, RBX has the address of the TCS. */
    __asm__ volatile("mov %%rsp, %%r12\n\t"
                     "mov %[stack], %%rsp\n\t"
                     "call *%[entry]\n\t"
                     "mov %%r12, %%rsp"
                     : "=a"(problem), [stack] "+c"(stack_top), "+D"(host)
                     : [entry] "0"(entry), "b"(tcs)
                     : "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3",
                       "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15");
    return problem;
}

static int run(struct myst_layout *layout, const struct myst_memory *memory, const struct myst_package *package,
               const struct myst_host *host, struct myst_error *error)
{
    uint8_t *tcs = memory->base + myst_layout_tcs(layout);
    uint8_t *entry = memory->base + layout->image.elf.header.e_entry;
    if (myst_memory_protect(memory, layout, error) != 0)
        return -1;
    myst_layout_free(layout);
    close(package->fd);
    return myst_fail(error, "enclave image: %s", enter(entry, tcs, tcs - MYST_PAGE, host));
}

static int act(const struct myst_options *options, const struct myst_host *host, struct myst_error *error)
{
    static struct myst_layout layout;
    struct myst_package package;
    struct myst_memory memory;
    uint8_t mrsigner[32];
    const int fd = open_self(error);
    if (fd < 0 || myst_package_open(&package, fd, error) != 0 ||
        load(&layout, &memory, &package, options, mrsigner, error) != 0)
        return -1;
    int printed;
    switch (options->action)
    {
    case MYST_ACTION_INFO:
        printed = myst_print_identity(&layout, mrsigner);
        break;
    case MYST_ACTION_VERIFY:
        printed = myst_print_verified(host->name, &layout, mrsigner);
        break;
    default:
        return run(&layout, &memory, &package, host, error);
    }
    return printed == 0 ? 0 : myst_fail(error, "output: cannot be written");
}

static int print(const char *text, struct myst_error *error)
{
    if (fputs(text, stdout) < 0 || fflush(stdout) != 0)
        return myst_fail(error, "output: cannot be written");
    return 0;
}

static int perform(const struct myst_options *options, const struct myst_host *host, struct myst_error *error)
{
    switch (options->action)
    {
    case MYST_ACTION_HELP:
        return print(myst_options_help, error);
    case MYST_ACTION_VERSION:
        return print("myst " MYST_VERSION " (embedded runtime of mystikos-tool)\n", error);
    default:
        return act(options, host, error);
    }
}

__attribute__((noinline)) static int start(int argc, char **argv, char **envp)
{
    static char *no_arguments[] = {(char *)"", NULL};
    struct myst_error error;
    struct myst_options options;
    if (argc < 1)
    {
        argc = 1;
        argv = no_arguments;
    }
    struct myst_host host = {
        .name = program_name(argv[0]),
        .envp = envp,
        .auxv = myst_auxv_after(envp),
        .arguments_end = argv == no_arguments ? NULL : argv[argc - 1] + strlen(argv[argc - 1]) + 1,
    };
    myst_set_package_name(host.name);
    int result = myst_options_read(&options, argc, argv, &error);
    if (result == 0)
    {
        /* The application sees argv[0] and what follows the options. */
        argv[options.count] = argv[0];
        host.argv = argv + options.count;
        host.argc = argc - options.count;
        host.flags = options.flags;
        host.mounts = options.mounts;
        host.mount_count = options.mount_count;
        host.root = options.root;
        host.rootfs = options.rootfs;
        host.rootfs_path = options.rootfs_path;
        result = perform(&options, &host, &error);
    }
    if (result != 0)
        myst_refuse("%s", error.text);
    return EXIT_SUCCESS;
}

/* A caller's limit of the stack is raised as far as it lets itself be, before any of the stack is used. */
__attribute__((noinline)) static void need_stack(void)
{
    static const char message[] =
        "package: mystikos: the caller's hard limit of the stack (ulimit -s) is below 256 KiB\n";
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= STACK_SIZE)
        return;
    limit.rlim_cur = limit.rlim_max < STACK_SIZE ? limit.rlim_max : STACK_SIZE;
    setrlimit(RLIMIT_STACK, &limit);
    if (limit.rlim_cur >= STACK_SIZE)
        return;
    const ssize_t written = write(STDERR_FILENO, message, sizeof message - 1); /* to format it takes too much */
    (void)written;
    _exit(MYST_EXIT_REFUSED);
}

int main(int argc, char **argv, char **envp)
{
    need_stack();
    return start(argc, argv, envp);
}
