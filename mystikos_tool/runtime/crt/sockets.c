#include "sockets.h"

#include "connecting.h"
#include "disguise.h"
#include "notes.h"
#include "own_files.h"
#include "redirect.h"
#include "rules.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_LISTENING 64 /* calls of listen, in all processes and for ever: closing gives none back */

/* A descriptor of this process for the caller's, where that is a Unix-domain socket; else -1. */
static int take_unix_socket(const struct myst_call *call)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    const int socket = myst_call_take_descriptor(call, (int)myst_call_argument(call, 0));
    if (socket < 0)
        return -1;
    if (getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX)
        return socket;
    close(socket);
    return -1;
}

/* True of a path in memory: what is of the host is on a device, or in memory of its own. */
static bool is_in_enclave(const struct myst_call *call, char *path)
{
    struct stat status;
    char *slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, ".");
    const int64_t directory = myst_call_open(call, AT_FDCWD, path, 0);
    if (directory < 0)
        return true;
    const bool result = fstat((int)directory, &status) == 0 && myst_is_in_memory(&status);
    close((int)directory);
    return result;
}

static bool has_type(int socket, int type)
{
    int own;
    socklen_t size = sizeof own;
    return getsockopt(socket, SOL_SOCKET, SO_TYPE, &own, &size) == 0 && own == type;
}

/* An address as the caller passes it. */
struct named
{
    struct sockaddr_un address;
    socklen_t size;
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path + 2]; /* "": an abstract name */
};

static bool read_address(const struct myst_call *call, struct named *named)
{
    const uint64_t size = myst_call_argument(call, 2);
    memset(named, 0, sizeof *named);
    named->size = size < sizeof named->address ? (socklen_t)size : (socklen_t)sizeof named->address;
    if (myst_call_read(call, myst_call_argument(call, 1), &named->address, named->size) != 0)
        return false;
    memcpy(named->path, named->address.sun_path, sizeof named->address.sun_path);
    return size <= sizeof named->address && named->address.sun_family == AF_UNIX;
}

static int64_t bind_to(const struct myst_call *call)
{
    struct named named;
    if (!read_address(call, &named))
        return MYST_CONTINUE;
    myst_note_use(MYST_USE_UNIX_SOCKET);
    return *named.path && call->application->host_sockets && is_in_enclave(call, named.path) ? -ENOTSUP : MYST_CONTINUE;
}

static bool can_be_accepted(int socket)
{
    return has_type(socket, SOCK_STREAM) || has_type(socket, SOCK_SEQPACKET);
}

/* Datagrams need nobody who accepts. Where the socket cannot be taken, the system says why. */
static int64_t connect_now(const struct myst_call *call, const struct myst_connection *connection)
{
    if (!myst_guards_sockets(call->application) || connection->socket < 0)
        return MYST_CONTINUE;
    return connect(connection->socket, (const struct sockaddr *)&connection->address, connection->size) == 0 ? 0
                                                                                                             : -errno;
}

/* By the file that the path leads to for the caller, which it takes over. */
static int64_t connect_later(const struct myst_call *call, const struct named *named, int file)
{
    struct myst_connection connection = {
        .socket = take_unix_socket(call), .file = file, .address = named->address, .size = named->size};
    if (file >= 0)
    {
        memset(&connection.address.sun_path, 0, sizeof connection.address.sun_path);
        myst_own_path(file, connection.address.sun_path);
        connection.size = sizeof connection.address;
    }
    if (connection.socket >= 0 && can_be_accepted(connection.socket))
        return myst_connect(call, &connection);
    const int64_t result = connect_now(call, &connection);
    if (connection.socket >= 0)
        close(connection.socket);
    if (file >= 0)
        close(file);
    return result;
}

/* Of what is no address of a Unix-domain socket now, and could be one when the system reads it. */
static int64_t connect_elsewhere(const struct myst_call *call)
{
    const int socket = myst_guards_sockets(call->application) ? take_unix_socket(call) : -1;
    if (socket < 0)
        return MYST_CONTINUE;
    close(socket);
    return -EINVAL;
}

static bool is_file_in_enclave(int file)
{
    struct stat status;
    return fstat(file, &status) == 0 && myst_is_in_memory(&status);
}

/* A socket that is not there refuses, as one of the host does where they are kept away. With HostUDS, all that have a
 * path are the host's. */
static int64_t connect_to(const struct myst_call *call)
{
    struct named named;
    if (!read_address(call, &named))
        return connect_elsewhere(call);
    const bool has_path = *named.path, is_of_host = call->application->host_sockets;
    const int64_t file = has_path ? myst_call_open(call, AT_FDCWD, named.path, 0) : MYST_CONTINUE;
    const bool in_enclave = !has_path || (file >= 0 ? is_file_in_enclave((int)file) : is_in_enclave(call, named.path));
    if (call->application->isolated && !is_of_host && in_enclave && (file >= 0 || !has_path))
        return connect_later(call, &named, has_path ? (int)file : -1);
    if (file >= 0)
        close((int)file);
    if (has_path && is_of_host && in_enclave)
        return -ENOTSUP;
    return file == -ENOENT || myst_guards_sockets(call->application) ? -ECONNREFUSED : MYST_CONTINUE;
}

/* A socket that does not listen: -1 to a C library that takes an int for the result, and no errno. */
static int64_t accept_from(const struct myst_call *call)
{
    int listens = 1;
    socklen_t size = sizeof listens;
    const int socket = take_unix_socket(call);
    if (socket < 0)
        return MYST_CONTINUE;
    getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
    close(socket);
    return listens ? MYST_CONTINUE : (int64_t)UINT32_MAX;
}

static bool is_left_by_peer(int socket)
{
    struct sockaddr_un address;
    socklen_t size = sizeof address;
    struct pollfd state = {.fd = socket};
    return getpeername(socket, (struct sockaddr *)&address, &size) == 0 && poll(&state, 1, 0) == 1 &&
           state.revents & POLLHUP;
}

/* The one flag that is known. */
static bool has_other_flags(const struct myst_call *call, int argument)
{
    return (int)myst_call_argument(call, argument) & ~MSG_NOSIGNAL;
}

/* The socket may have been made without a peer; then an address does not give it one. */
static int64_t judge_sending(const struct myst_call *call, int socket)
{
    if (has_other_flags(call, 3))
        return -ENOTSUP;
    if (myst_call_argument(call, 5))
        return -ENOTCONN;
    return is_left_by_peer(socket) ? -EINVAL : MYST_CONTINUE;
}

/* By a call that passes no name, which could come after a look. */
static int64_t send_without_name(const struct myst_call *call, const struct msghdr *message)
{
    const uint64_t arguments[6] = {myst_call_argument(call, 0), (uint64_t)(uintptr_t)message->msg_iov,
                                   message->msg_iovlen};
    const int64_t result = message->msg_name ? -ENOTCONN : myst_redirect(call, SYS_writev, arguments);
    return result == MYST_CONTINUE ? -EPERM : result;
}

/* Nothing but data is passed. */
static int64_t judge_message(const struct myst_call *call, int socket)
{
    const bool sends = call->notification.data.nr == SYS_sendmsg && myst_guards_sockets(call->application);
    struct msghdr message;
    if (has_other_flags(call, 2))
        return -ENOTSUP;
    if (myst_call_read(call, myst_call_argument(call, 1), &message, sizeof message) != 0)
        return MYST_CONTINUE;
    if (message.msg_control || message.msg_controllen)
        return -ENOTSUP;
    return sends && has_type(socket, SOCK_DGRAM) ? send_without_name(call, &message) : MYST_CONTINUE;
}

static int64_t judge(const struct myst_call *call, int socket)
{
    switch (call->notification.data.nr)
    {
    case SYS_sendto:
        return judge_sending(call, socket);
    case SYS_recvfrom:
        return has_other_flags(call, 3) ? -ENOTSUP : MYST_CONTINUE;
    case SYS_sendmsg:
    case SYS_recvmsg:
        return judge_message(call, socket);
    default:
        return -ENOTSUP; /* an option that is not known, or sendmmsg */
    }
}

static int64_t transfer(const struct myst_call *call)
{
    const int socket = call->application->host_sockets ? -1 : take_unix_socket(call);
    if (socket < 0)
        return MYST_CONTINUE;
    const int64_t result = judge(call, socket);
    close(socket);
    return result;
}

static int64_t tell_peer(const struct myst_call *call)
{
    if ((int)myst_call_argument(call, 0) < 0)
        return -EBADF;
    if (call->application->host_sockets)
        return MYST_CONTINUE;
    return (int)myst_call_argument(call, 2) == SO_PEERCRED ? -ENOTSUP : transfer(call);
}

static bool has_address(int socket)
{
    struct sockaddr_un address;
    socklen_t size = sizeof address;
    return getsockname(socket, (struct sockaddr *)&address, &size) == 0 && size > sizeof address.sun_family;
}

static int64_t listen_on(const struct myst_call *call)
{
    static int count;
    const int socket = call->application->host_sockets ? -1 : take_unix_socket(call);
    if (socket < 0)
        return MYST_CONTINUE;
    const int64_t result = !has_address(socket) ? -EOPNOTSUPP : count == MAX_LISTENING ? -ERANGE : MYST_CONTINUE;
    count += result == MYST_CONTINUE;
    close(socket);
    return result;
}

/* A peer has no name, and needs not be there. */
static int64_t name_peer(const struct myst_call *call)
{
    const struct sockaddr_un none = {.sun_family = AF_UNIX};
    const uint64_t address = myst_call_argument(call, 1), size_at = myst_call_argument(call, 2);
    uint32_t size;
    const int socket = call->application->host_sockets ? -1 : take_unix_socket(call);
    if (socket < 0)
        return MYST_CONTINUE;
    close(socket);
    if (!address || !size_at)
        return 0;
    const int64_t result = myst_call_read(call, size_at, &size, sizeof size);
    return result != 0 ? result : myst_call_write(call, address, &none, size < sizeof none ? size : sizeof none);
}

static int64_t make_pair(const struct myst_call *call)
{
    if ((int)myst_call_argument(call, 0) == AF_UNIX)
        myst_note_use(MYST_USE_UNIX_SOCKET);
    return MYST_CONTINUE;
}

int64_t myst_serve_sockets(const struct myst_call *call)
{
    switch (call->notification.data.nr)
    {
    case SYS_bind:
        return bind_to(call);
    case SYS_connect:
        return connect_to(call);
    case SYS_accept:
    case SYS_accept4:
        return accept_from(call);
    case SYS_sendto:
    case SYS_recvfrom:
    case SYS_sendmsg:
    case SYS_recvmsg:
    case SYS_sendmmsg:
        return transfer(call);
    case SYS_getsockopt:
        return tell_peer(call);
    case SYS_setsockopt:
        return transfer(call);
    case SYS_listen:
        return listen_on(call);
    case SYS_getpeername:
        return name_peer(call);
    case SYS_socketpair:
        return make_pair(call);
    default:
        return MYST_CONTINUE;
    }
}
