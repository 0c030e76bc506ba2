/* What a program expects of a Linux that it finds itself in: devices, terminals, the network. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static void tell(const char *what, int works)
{
    printf("%s: %s\n", what, works ? "works" : strerror(errno));
}

static int pseudo_terminal(void)
{
    char text[8] = "";
    struct termios settings;
    int leader = posix_openpt(O_RDWR | O_NOCTTY);
    if (leader < 0 || grantpt(leader) != 0 || unlockpt(leader) != 0)
        return 0;
    int follower = open(ptsname(leader), O_RDWR | O_NOCTTY);
    return follower >= 0 && isatty(follower) && tcgetattr(follower, &settings) == 0 &&
           write(leader, "typed\n", 6) == 6 && read(follower, text, 6) == 6 && strcmp(text, "typed\n") == 0;
}

static int shared_memory(void)
{
    int file = shm_open("/memory", O_RDWR | O_CREAT, 0600);
    return file >= 0 && ftruncate(file, 4096) == 0 &&
           mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) != MAP_FAILED;
}

static int devices(void)
{
    char bytes[64] = {1}, zeros[64] = {0};
    tell("null", write(open("/dev/null", O_WRONLY), "x", 1) == 1);
    tell("end of null", read(open("/dev/null", O_RDONLY), bytes, 1) == 0);
    tell("zero", read(open("/dev/zero", O_RDONLY), bytes, sizeof bytes) == sizeof bytes &&
                     memcmp(bytes, zeros, sizeof bytes) == 0);
    tell("random", read(open("/dev/random", O_RDONLY), bytes, sizeof bytes) > 0);
    tell("urandom", read(open("/dev/urandom", O_RDONLY), bytes, sizeof bytes) == sizeof bytes &&
                        memcmp(bytes, zeros, sizeof bytes) != 0);
    tell("pseudo-terminal", pseudo_terminal());
    tell("shared memory", shared_memory());
    int file = open("/tmp/file", O_WRONLY | O_CREAT | O_EXCL, 0600);
    tell("temporary file", file >= 0);
    snprintf(bytes, sizeof bytes, "/dev/fd/%d", file);
    tell("descriptor", open(bytes, O_WRONLY) >= 0);
    tell("control terminal", open("/dev/tty", O_RDWR) >= 0);
    return 0;
}

static int read_from_network(const char *port)
{
    char text[64];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    int file = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(file, (struct sockaddr *)&address, sizeof address) != 0)
        return perror("connect"), 1;
    ssize_t size = read(file, text, sizeof text);
    return size > 0 && write(1, text, (size_t)size) == size ? 0 : 1;
}

static void tell_window(int number)
{
    struct winsize size = {0};
    char line[32];
    (void)number;
    ioctl(0, TIOCGWINSZ, &size);
    int length = snprintf(line, sizeof line, "%d %d\n", size.ws_row, size.ws_col);
    if (write(1, line, (size_t)length) != length)
        _exit(1);
}

static int window(void)
{
    signal(SIGWINCH, tell_window);
    tell_window(0);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "devices") == 0)
        return devices();
    if (argc == 2 && strcmp(argv[1], "window") == 0)
        return window();
    if (argc == 2 && strcmp(argv[1], "terminal") == 0)
        return puts(ttyname(0) ? ttyname(0) : strerror(errno)) < 0;
    if (argc == 3 && strcmp(argv[1], "network") == 0)
        return read_from_network(argv[2]);
    return 2;
}
