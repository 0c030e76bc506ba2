/* The embedded kernel, which stands in for that of Mystikos: reads the measured configuration, unpacks the measured
 * root file system, makes the sandbox around it and starts the C runtime image in there. */
#include "../common/application.h"
#include "../common/config_reader.h"
#include "../common/error.h"
#include "../common/handoff.h"
#include "../common/host.h"
#include "../common/sizes.h"
#include "../common/start.h"
#include "app_environment.h"
#include "archive.h"
#include "command.h"
#include "disk_root.h"
#include "file_limits.h"
#include "landlock.h"
#include "monitor.h"
#include "mounts.h"
#include "namespaces.h"
#include "no_isolation.h"
#include "port_binder.h"
#include "privileges.h"
#include "root.h"
#include "served_disk.h"
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_HOSTNAME "TEE" /* as in Mystikos */
#define MAX_HOST_NAME 64       /* bytes of one in Linux and Mystikos */
#define CRT_STACK_SIZE (256u << 10)
#define MIN_MAIN_STACK_SIZE (32u << 10)

/* Opens /dev/null in place of what is closed, so that no other file gets these numbers. */
static void fill_stdio(bool was_closed[3])
{
    for (int i = 0; i < 3; i++)
    {
        was_closed[i] = fcntl(i, F_GETFD) < 0;
        if (was_closed[i] && open("/dev/null", O_RDWR) != i)
            myst_refuse_errno("cannot open /dev/null");
    }
}

/* A directory of the host would be a way to all of the host. */
static void refuse_directories(void)
{
    struct stat status;
    for (int i = 0; i < 3; i++)
        if (fstat(i, &status) == 0 && S_ISDIR(status.st_mode))
            myst_refuse("descriptor %d is a directory of the host, which the application must not have", i);
}

static void note_given_files(struct myst_application *application)
{
    struct stat status;
    for (int i = 0; i < 3; i++)
    {
        if (fstat(i, &status) != 0 || application->stdio_was_closed[i])
            continue;
        application->given_descriptors[i] = (struct myst_file){status.st_dev, status.st_ino};
        if (S_ISREG(status.st_mode))
            application->given_files[i] = application->given_descriptors[i];
    }
}

/* What the caller ignores or limits must not keep this process from its work. */
static void set_known_dispositions(void)
{
    struct rlimit files;
    personality(PER_LINUX); /* with addresses that nobody knows */
    signal(SIGCHLD, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN); /* writing fails, and is told */
    if (getrlimit(RLIMIT_FSIZE, &files) == 0 && files.rlim_cur < files.rlim_max)
    {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_FSIZE, &files);
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
    struct myst_error error;
    const struct myst_span *text = &handoff->regions[MYST_REGION_CONFIG];
    if (myst_config_read(text->data, text->size, config, &error) != 0)
        myst_refuse("%s", error.text);
}

/* Refuses what the embedded runtime cannot do, instead of ignoring it. */
static void refuse_unsupported(const struct myst_config *config)
{
    if (config->main_stack_size < MIN_MAIN_STACK_SIZE)
        myst_refuse("configuration: MainStackSize: Mystikos starts no program with less than 32 KiB");
    if (config->main_stack_size >= config->memory_size)
        myst_refuse("configuration: MainStackSize: is not smaller than MemorySize");
    if (config->secret_count > 0)
        myst_refuse("configuration: Secret: secrets are released after attestation, and there is none here");
}

/* As SGX hardware does: only a debug enclave lets its inside be seen or something else run in it. */
static void refuse_outside_of_debug(const struct myst_handoff *handoff)
{
    static const char message[] = "options: %s is for debug enclaves, and Debug is not set in the configuration";
    if (handoff->debug)
        return;
    if (handoff->host.flags & MYST_HOST_TRACE)
        myst_refuse(message, "--myst-strace");
    if (handoff->host.flags & MYST_HOST_SHELL)
        myst_refuse(message, "--myst-shell");
    if (handoff->host.flags & MYST_HOST_LINUX)
        myst_refuse(message, "--myst-linux");
    if (handoff->host.root)
        myst_refuse(message, "--myst-root");
}

/* A setting of Yama (Documentation/admin-guide/LSM/Yama.rst) forbids a parent to look into its children. */
static bool may_look_into_children(void)
{
    char scope = '0';
    const int setting = open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);
    const bool known = setting < 0 || read(setting, &scope, 1) == 1;
    if (setting >= 0)
        close(setting);
    return known && scope <= '1';
}

static uint64_t make_secret(void)
{
    uint64_t secret;
    if (getrandom(&secret, sizeof secret, 0) != sizeof secret)
        myst_refuse_errno("cannot get random bytes");
    return secret;
}

static void refuse_credentials(const struct myst_application *application)
{
    if (myst_find_variable(application->environment, "MYST_WANT_TEE_CREDENTIALS"))
        myst_refuse("environment: MYST_WANT_TEE_CREDENTIALS: credentials need attestation, and there is none here");
}

static struct myst_archive find_archive(const struct myst_handoff *handoff)
{
    struct myst_archive archive = {.data = handoff->regions[MYST_REGION_ROOTFS].data,
                                   .size = handoff->regions[MYST_REGION_ROOTFS].size,
                                   .name = "root file system"};
    return archive;
}

/* Another process would hold on to the pages that this one gives back while it unpacks them. */
static void keep_archive_here(const struct myst_handoff *handoff)
{
    const struct myst_archive archive = find_archive(handoff);
    const uintptr_t start = myst_page_up((uintptr_t)archive.data);
    const uintptr_t end = ((uintptr_t)archive.data + archive.size) / MYST_PAGE * MYST_PAGE;
    if (end > start)
        madvise((void *)start, end - start, MADV_DONTFORK);
}

/* Unpacks into the working directory. */
static void unpack(struct myst_archive archive)
{
    int root = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        myst_refuse_errno("cannot open the new root");
    myst_unpack(archive, root);
    close(root);
}

/* Content that the application adds counts against MemorySize; what the archive brings does not, as in
 * Mystikos, where it stays in the measured pages. */
static void make_root(const struct myst_handoff *handoff, const struct myst_config *config)
{
    struct myst_archive archive = find_archive(handoff);
    struct myst_archive_totals totals;
    struct myst_error error;

    if (myst_root_is_on_disk(handoff))
    {
        myst_make_disk_root(handoff, config);
        myst_complete_root(config->memory_size, handoff->host.flags & MYST_HOST_LINUX);
        return;
    }
    if (myst_archive_measure(archive, &totals, &error) != 0)
        myst_refuse("%s", error.text);
    if (handoff->host.root)
        myst_keep_root(handoff->host.root);
    else
        myst_make_root(totals.bytes + config->memory_size, totals.entries + 1024 + config->memory_size / MYST_PAGE);
    unpack(archive);
    myst_complete_root(config->memory_size, handoff->host.flags & MYST_HOST_LINUX);
}

static void set_hostname(const struct myst_config *config)
{
    const char *name = config->hostname ? config->hostname : DEFAULT_HOSTNAME;
    if (sethostname(name, strnlen(name, MAX_HOST_NAME)) != 0)
        myst_refuse_errno("cannot set the host name");
}

/* Leaves the first MaxAffinityCPUs of the processors that the host allows. */
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

/* A directory that is not there can be the working directory of a program, which finds nothing in it: as when it was
 * removed. A path that is not absolute leads to none. */
static void enter_missing_directory(const char *path)
{
    char made[PATH_MAX];
    size_t removed = 0;
    snprintf(made, sizeof made, "%s", *path == '/' ? path : MYST_NO_DIRECTORY);
    for (char *at = made + 1, *slash = at; slash; at = slash + 1)
    {
        slash = strchr(at, '/');
        if (slash)
            *slash = 0;
        if (mkdir(made, 0755) == 0 && !removed)
            removed = strlen(made);
        if (slash)
            *slash = '/';
    }
    if (chdir(made) != 0)
        myst_refuse_errno("configuration: CurrentWorkingDirectory: cannot enter %s", path);
    for (char *end = made + strlen(made); removed && (size_t)(end - made) >= removed; end = strrchr(made, '/'))
    {
        *end = 0;
        rmdir(made);
    }
}

static void enter_working_directory(const struct myst_config *config)
{
    const char *path = config->current_working_directory;
    if (*path == '/' && chdir(path) == 0)
        return;
    if (*path == '/' && errno != ENOENT)
        myst_refuse_errno("configuration: CurrentWorkingDirectory: cannot enter %s", path);
    enter_missing_directory(path);
}

/* The sandbox ends with the outer process. If that has ended before the request, the pipe tells. */
static void die_with_parent(int control)
{
    struct pollfd parent = {.fd = control};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        myst_refuse_errno("cannot tie the sandbox to its starter");
    if (poll(&parent, 1, 0) > 0 && (parent.revents & POLLHUP))
        _exit(MYST_EXIT_REFUSED);
}

/* Keeps the application from the measured memory, which is still mapped here, and from the host's command line. */
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
    char *stack = mmap(NULL, CRT_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        myst_refuse_errno("cannot make a stack for the C runtime image");
    myst_start_image(handoff->regions[MYST_REGION_CRT].data, stack + CRT_STACK_SIZE, 1, arguments, no_environment,
                     myst_auxv_after(environ), AT_MYST_APPLICATION, application);
}

/* Process 1 of the sandbox. */
__attribute__((noreturn)) static void run_isolated(const struct myst_handoff *handoff, const struct myst_config *config,
                                                   const struct myst_application *application)
{
    myst_change_root(config->memory_size, application->as_linux);
    set_hostname(config);
    limit_processors(config);
    umask(022);
    enter_working_directory(config);
    myst_drop_privileges();
    myst_restrict_paths(config->host_uds);
    forbid_inspection(handoff);
    die_with_parent(application->control);
    start_crt(handoff, application);
}

/* In the root. As Mystikos, which looks for the file in the working directory. */
static void add_app_environment(const struct myst_config *config, struct myst_application *application)
{
    if (strcmp(config->current_working_directory, "/") == 0)
        application->environment = myst_add_app_environment(application->environment);
}

/* Runs in the directory that becomes the root. When this process fails, the outer one still removes the directory. */
__attribute__((noreturn)) static void run_without_isolation(const struct myst_handoff *handoff,
                                                            const struct myst_config *config,
                                                            struct myst_application *application, const char *directory)
{
    die_with_parent(application->control);
    /* The root will have no /proc. */
    application->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    application->children = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    struct myst_archive archive = find_archive(handoff);
    archive.without_set_id = true; /* which other users of the machine could run */
    if (myst_root_is_on_disk(handoff))
        myst_unpack_disk_root(true);
    else
        unpack(archive);
    myst_complete_root_without_mounts();
    add_app_environment(config, application);
    myst_no_isolation_enter_root(directory, config, application);
    limit_processors(config);
    umask(022);
    myst_drop_own_privileges();
    forbid_inspection(handoff);
    /* The application would outlive this process, which therefore waits for the outer one's end itself. */
    if (prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0) != 0)
        myst_refuse_errno("cannot untie the application from its starter");
    start_crt(handoff, application);
}

/* The application may wait for the other end of a pipe: this process must not keep it open. */
static void let_go_of_stdio(void)
{
    for (int i = 0; i < 3; i++)
        close(i);
}

static struct myst_application describe_application(const struct myst_handoff *handoff,
                                                    const struct myst_config *config)
{
    /* A shell has to be able to start programs. */
    const bool shell = handoff->host.flags & MYST_HOST_SHELL, as_linux = handoff->host.flags & MYST_HOST_LINUX;
    return (struct myst_application){
        .working_directory = config->current_working_directory,
        .path = shell ? "/bin/sh" : config->application_path,
        .arguments = shell ? myst_shell_arguments(handoff) : myst_arguments(config, handoff),
        .environment = myst_environment(config, handoff),
        .address_space = config->memory_size,
        .main_stack = config->main_stack_size,
        .thread_stack = config->thread_stack_size,
        .exec_stack = config->exec_stack,
        .port_binder = -1,
        .file_limits = -1,
        .no_brk = config->no_brk,
        .limits_processors = config->max_affinity_cpus > 0,
        .fork_allowed = shell || as_linux || config->fork_mode != MYST_FORK_NONE,
        .fork_waits = !shell && !as_linux && config->fork_mode == MYST_FORK_PSEUDO_WAIT,
        .unhandled_enosys = config->unhandled_syscall_enosys,
        .allow_unhandled = shell,
        .isolated = !(handoff->host.flags & MYST_HOST_NO_ISOLATION),
        .host_sockets = config->host_uds,
        .host_directories = myst_mounts_host_directories(config),
        .trace = handoff->host.flags & MYST_HOST_TRACE,
        .quiet = handoff->host.flags & MYST_HOST_QUIET || as_linux,
        .as_linux = as_linux,
        .may_look_into_children = may_look_into_children(),
        .secret = make_secret(),
    };
}

/* Returns the directory that the root is in where there is no isolation, else NULL. */
static const char *make_sandbox(const struct myst_handoff *handoff, const struct myst_config *config,
                                struct myst_application *application)
{
    umask(0);
    myst_open_root_disk(handoff);
    if (!application->isolated)
    {
        myst_no_isolation_check(config);
        return myst_no_isolation_make_root(handoff);
    }
    keep_archive_here(handoff);
    application->port_binder = myst_start_port_binder();
    myst_enter_namespaces();
    myst_open_mount_sources(config, handoff);
    make_root(handoff, config);
    add_app_environment(config, application);
    myst_mount_all(config, handoff);
    if (!application->as_linux)
        application->file_limits = myst_start_file_limits(config->memory_size);
    myst_enter_process_namespace();
    return NULL;
}

/* Starts the first process of the sandbox; returns the end of a pipe through which it is told of signals. */
static int start(const struct myst_handoff *handoff, const struct myst_config *config,
                 struct myst_application *application, const char *directory, pid_t *init)
{
    int control[2];
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &application->signal_mask);
    if (pipe2(control, O_CLOEXEC) != 0)
        myst_refuse_errno("cannot make a pipe");
    application->control = control[0];
    *init = fork();
    if (*init < 0)
        myst_refuse_errno("cannot start a process");
    if (*init == 0)
    {
        close(control[1]);
        if (application->isolated)
            run_isolated(handoff, config, application);
        run_without_isolation(handoff, config, application, directory);
    }
    close(control[0]);
    return control[1];
}

int main(void)
{
    const struct myst_handoff *handoff = (const struct myst_handoff *)getauxval(AT_MYST_HANDOFF);
    struct myst_config config;
    bool stdio_was_closed[3];
    pid_t init;

    const char *package_name = myst_allocated(strdup(handoff->host.name));
    myst_set_package_name(package_name);
    set_known_dispositions();
    fill_stdio(stdio_was_closed);
    refuse_directories();
    close_other_descriptors();
    read_configuration(handoff, &config);
    refuse_unsupported(&config);
    refuse_outside_of_debug(handoff);
    myst_check_mounts(&config, handoff);
    struct myst_application application = describe_application(handoff, &config);
    refuse_credentials(&application);
    application.package_name = package_name;
    memcpy(application.stdio_was_closed, stdio_was_closed, sizeof stdio_was_closed);
    note_given_files(&application);

    const char *directory = make_sandbox(handoff, &config, &application);
    const int control = start(handoff, &config, &application, directory, &init);
    if (chdir("/") != 0)
        myst_refuse_errno("cannot leave the new root");
    if (application.isolated)
        myst_drop_privileges();
    else
        myst_drop_own_privileges();
    let_go_of_stdio();
    const int status = myst_monitor(init, control);
    myst_stop_serving();
    if (directory && !handoff->host.root)
        myst_no_isolation_remove_root(directory);
    return status;
}
