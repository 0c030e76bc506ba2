#include "served_disk.h"

#include "../common/error.h"
#include "ext2.h"
#include "file_limits.h"
#include "fuse.h"
#include "helper.h"
#include "privileges.h"
#include "tmpfs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_SERVERS 33 /* the root's and those of all mounts */
#define CHANNEL 0      /* the server's descriptors */
#define DISK 1

static pid_t servers[MAX_SERVERS];
static size_t server_count;

__attribute__((noreturn)) static void serve(struct myst_ext2 *fs)
{
    static _Alignas(8) uint8_t request[MYST_FUSE_REQUEST_MAX], reply[MYST_FUSE_REPLY_MAX];
    for (;;)
    {
        const ssize_t size = read(CHANNEL, request, sizeof request);
        if (size < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
            continue; /* ENOENT: who asked has gone */
        if (size <= 0)
            _exit(0); /* ENODEV: nothing is mounted any more */
        const size_t answered = myst_fuse_answer(fs, request, (size_t)size, reply);
        if (answered > 0)
        {
            const ssize_t written = write(CHANNEL, reply, answered);
            (void)written; /* who asked may have gone */
        }
    }
}

struct served
{
    struct myst_ext2 *fs;
    int channel;
};

/* With what a server needs and no more, so that a disk which got the better of it would have no more. */
static void become_server(void *given)
{
    static const unsigned needed[] = {SYS_read, SYS_write, SYS_pread64, SYS_restart_syscall, SYS_exit_group};
    const struct served *served = given;
    struct myst_disk *disk = served->fs->disk;
    const int kept[] = {served->channel, disk->file};
    myst_drop_privileges();
    myst_keep_descriptors(kept, MYST_COUNT(kept));
    disk->file = disk->verity.file = DISK;
    myst_allow_calls_only(needed, MYST_COUNT(needed));
    serve(served->fs);
}

static bool start_server(struct myst_ext2 *fs, int channel)
{
    struct served served = {.fs = fs, .channel = channel};
    if (server_count == MAX_SERVERS)
        myst_refuse("more than %d disks are mounted", MAX_SERVERS);
    const pid_t pid = myst_start_helper(become_server, &served);
    if (pid < 0)
        return false;
    servers[server_count++] = pid;
    return true;
}

static void stop_last_server(void)
{
    const pid_t pid = servers[--server_count];
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

void myst_stop_serving(void)
{
    while (server_count > 0)
        stop_last_server();
}

/* Linux lets mount only who opened the channel, in the same user namespace. */
static bool mount_served(struct myst_ext2 *fs, const char *directory)
{
    char options[96];
    const int channel = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (channel < 0)
        return false;
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
             channel);
    const bool mounted = mount("disk", directory, "fuse.ext2", MS_RDONLY | MS_NOSUID | MS_NODEV, options) == 0 &&
                         start_server(fs, channel);
    close(channel);
    return mounted;
}

/* Where a layer notes what it hides of the one below. A tmpfs before Linux 6.6 cannot. */
static bool has_attributes(const char *directory)
{
    return setxattr(directory, "user.mystikos", "", 0, 0) == 0 && removexattr(directory, "user.mystikos") == 0;
}

/* In an empty file system in memory, which is then covered. */
static bool mount_layers(struct myst_ext2 *fs, const struct myst_ext2_inode *root)
{
    const size_t servers_before = server_count;
    if (mkdir("disk", 0700) != 0 || mkdir("changes", 0700) != 0 || mkdir("work", 0700) != 0 ||
        chmod("changes", root->mode & 07777) != 0 || !has_attributes("changes") || !mount_served(fs, "disk"))
        return false;
    if (mount("disk", ".", "overlay", MS_NOSUID | MS_NODEV,
              "lowerdir=disk,upperdir=changes,workdir=work,userxattr,xino=on,volatile") == 0)
        return true;
    while (server_count > servers_before)
        stop_last_server();
    return false;
}

static void open_file_system(struct myst_ext2 *fs, struct myst_disk *disk, struct myst_ext2_inode *root)
{
    struct myst_error error;
    if (myst_ext2_open(fs, disk, &error) != 0)
        myst_refuse("%s", error.text);
    if (myst_ext2_inode(fs, MYST_EXT2_ROOT, root) != 0 || !S_ISDIR(root->mode))
        myst_refuse("%s: its root %s", disk->name, fs->problem ? fs->problem : "is no directory that can be read");
}

bool myst_serve_disk(struct myst_disk *disk, const char *target, uint64_t bytes)
{
    static struct myst_ext2 fs;
    struct myst_ext2_inode root;
    char options[96];
    const int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    open_file_system(&fs, disk, &root);
    snprintf(options, sizeof options, "mode=0700,size=%llu,nr_inodes=%llu", (unsigned long long)bytes,
             (unsigned long long)(bytes / MYST_PAGE + 1024));
    if (before < 0 || myst_mount_tmpfs(target, options) != 0 || chdir(target) != 0)
        myst_refuse_errno("cannot make a file system in memory");
    const bool served = mount_layers(&fs, &root);
    if (served)
        myst_limit_files_at("."); /* what the disk covers */
    if (fchdir(before) != 0)
        myst_refuse_errno("cannot leave the disk");
    close(before);
    if (!served && umount2(target, MNT_DETACH) != 0)
        myst_refuse_errno("cannot unmount a disk");
    return served;
}
