/* The kernel image: reads the measured configuration, unpacks the measured root file system, makes the
 * sandbox around it and starts the C runtime image in there. */
#include "../common/application.h"
#include "../common/config_reader.h"
#include "../common/handoff.h"
#include "../common/host.h"
#include "../common/refuse.h"
#include "../common/start.h"
#include "archive.h"
#include "command.h"
#include "monitor.h"
#include "namespaces.h"
#include "privileges.h"
#include "root.h"
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_HOSTNAME "TEE" /* as in Mystikos */
#define CRT_STACK_SIZE (256u << 10)

/* /dev/null in place of what is closed, so that no other file gets these numbers on the way. */
static void fill_stdio(bool was_closed[3])
{
    for (int i = 0; i < 3; i++)
    {
        was_closed[i] = fcntl(i, F_GETFD) < 0;
        if (was_closed[i] && open("/dev/null", O_RDWR) != i)
            myst_refuse_errno("cannot open /dev/null");
    }
}

static void close_other_descriptors(void)
{
    if (syscall(SYS_close_range, 3u, ~0u, 0u) == 0)
        return;
    long limit = sysconf(_SC_OPEN_MAX); /* before Linux 5.9 */
    for (int i = 3; i < limit; i++)
        close(i);
}

static void read_configuration(const struct myst_handoff *handoff, struct myst_config *config)
{
    char problem[256];
    if (myst_config_read(handoff->config.data, handoff->config.size, config, problem, sizeof problem) != 0)
        myst_refuse("configuration: %s", problem);
}

/* What would otherwise silently be something else than the configuration says. */
static void refuse_unsupported(const struct myst_config *config)
{
    static const char message[] = "configuration: %s is not supported by the embedded runtime";
    if (config->thread_stack_size > 0)
        myst_refuse(message, "ThreadStackSize");
    if (config->exec_stack)
        myst_refuse(message, "ExecStack");
    if (config->mount_count > 0)
        myst_refuse(message, "Mount");
    if (config->secret_count > 0)
        myst_refuse("configuration: Secret: secrets are released after attestation, and there is none here");
}

/* Content that the application adds counts against MemorySize; what the archive brings does not, as in
 * Mystikos, where it stays in the measured pages. */
static void unpack_root(const struct myst_handoff *handoff, const struct myst_config *config)
{
    struct myst_archive archive = {.data = handoff->rootfs.data, .size = handoff->rootfs.size};
    struct myst_archive_totals totals;
    const char *problem;
    const uint64_t page = MYST_PAGE_SIZE;

    if (archive.size == page && archive.data[0] == 0)
        myst_refuse("the root file system is on an ext2 disk, which the embedded runtime does not mount");
    if (myst_archive_measure(archive, &totals, &problem) != 0)
        myst_refuse("root file system: %s", problem);
    myst_make_root(totals.pages * page + config->memory_size,
                   totals.entries + 1024 + config->memory_size / page);

    int root = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        myst_refuse_errno("cannot open the new root");
    myst_unpack(archive, root);
    close(root);
}

static void set_hostname(const struct myst_config *config)
{
    const char *name = config->hostname ? config->hostname : DEFAULT_HOSTNAME;
    if (sethostname(name, strlen(name)) != 0)
        myst_refuse_errno("cannot set the host name");
}

/* The first ones of those that the host allows. */
static void limit_processors(const struct myst_config *config)
{
    cpu_set_t set;
    uint64_t kept = 0;

    if (config->max_affinity_cpus == 0)
        return;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        myst_refuse_errno("MaxAffinityCPUs: cannot read the CPU affinity");
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set) && kept++ >= config->max_affinity_cpus)
            CPU_CLR(i, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        myst_refuse_errno("MaxAffinityCPUs: cannot set the CPU affinity");
}

static void enter_working_directory(const struct myst_config *config)
{
    if (chdir(config->current_working_directory) != 0)
        myst_refuse_errno("configuration: CurrentWorkingDirectory: cannot enter %s",
                          config->current_working_directory);
}

/* With the outer process goes the sandbox. The pipe tells when that has happened before the request. */
static void die_with_parent(int control)
{
    struct pollfd parent = {.fd = control};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        myst_refuse_errno("cannot tie the sandbox to its starter");
    if (poll(&parent, 1, 0) > 0 && (parent.revents & POLLHUP))
        _exit(MYST_EXIT_REFUSED);
}

/* The measured memory is still mapped here, and must stay out of the application's reach, as must what the
 * host's command line tells about the host. */
static void forbid_inspection(const struct myst_handoff *handoff)
{
    myst_hide_host_arguments(handoff);
    prctl(PR_SET_NAME, "init", 0, 0, 0);
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        myst_refuse_errno("cannot forbid inspection");
}

__attribute__((noreturn)) static void start_crt(const struct myst_handoff *handoff,
                                                const struct myst_application *application)
{
    static char *arguments[] = {(char *)"libmystcrt", NULL};
    static char *no_environment[] = {NULL};
    char *stack = mmap(NULL, CRT_STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        myst_refuse_errno("cannot make a stack for the C runtime image");
    myst_start_image(handoff->crt.data, stack + CRT_STACK_SIZE, 1, arguments, no_environment,
                     myst_auxv_after(environ), AT_MYST_APPLICATION, application);
}

/* Process 1 of the sandbox. */
__attribute__((noreturn)) static void run_sandbox(const struct myst_handoff *handoff,
                                                  const struct myst_config *config,
                                                  const struct myst_application *application)
{
    myst_change_root();
    set_hostname(config);
    limit_processors(config);
    umask(022);
    enter_working_directory(config);
    myst_drop_privileges();
    forbid_inspection(handoff);
    die_with_parent(application->control);
    start_crt(handoff, application);
}

/* This process holds nothing that the application might wait for, such as the end of a pipe. */
static void let_go_of_stdio(void)
{
    for (int i = 0; i < 3; i++)
        close(i);
}

static struct myst_application describe_application(const struct myst_handoff *handoff,
                                                    const struct myst_config *config)
{
    return (struct myst_application){
        .path = config->application_path,
        .arguments = myst_arguments(config, handoff),
        .environment = myst_environment(config, handoff),
        .address_space = config->memory_size,
        .main_stack = config->main_stack_size,
        .no_brk = config->no_brk,
        .limits_processors = config->max_affinity_cpus > 0,
        .fork_allowed = config->fork_mode != MYST_FORK_NONE,
        .unhandled_enosys = config->unhandled_syscall_enosys,
    };
}

int main(void)
{
    const struct myst_handoff *handoff = (const struct myst_handoff *)getauxval(AT_MYST_HANDOFF);
    struct myst_config config;
    bool stdio_was_closed[3];
    int control[2];

    char *package_name = strdup(handoff->host_name);
    if (!package_name)
        myst_refuse("out of memory");
    myst_set_package_name(package_name);
    fill_stdio(stdio_was_closed);
    close_other_descriptors();
    read_configuration(handoff, &config);
    refuse_unsupported(&config);
    struct myst_application application = describe_application(handoff, &config);
    application.package_name = package_name;
    memcpy(application.stdio_was_closed, stdio_was_closed, sizeof stdio_was_closed);

    umask(0);
    myst_enter_namespaces();
    unpack_root(handoff, &config);
    myst_complete_root(config.memory_size);

    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &application.signal_mask);
    if (pipe2(control, O_CLOEXEC) != 0)
        myst_refuse_errno("cannot make a pipe");
    application.control = control[0];
    pid_t init = fork();
    if (init < 0)
        myst_refuse_errno("cannot start a process");
    if (init == 0)
    {
        close(control[1]);
        run_sandbox(handoff, &config, &application);
    }
    close(control[0]);
    if (chdir("/") != 0)
        myst_refuse_errno("cannot leave the new root");
    myst_drop_privileges();
    let_go_of_stdio();
    myst_monitor(init, control[1]);
}
