#include "notify_thread.h"

#include "../common/error.h"
#include "seccomp_notify.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>

#define STACK_SIZE (1u << 20)

static const struct myst_application *given;
static int calls = -1, sooner = -1;
static myst_end end_all;
static myst_timeout until_next_look;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int64_t sleeps_until; /* the first thread, in milliseconds; 0: it is about to look at the time */

static int64_t end_of(int timeout)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return timeout < 0 ? INT64_MAX : time.tv_sec * 1000 + time.tv_nsec / 1000000 + timeout;
}

/* An answer can bring the next look forward. */
static void wake_if_sooner(void)
{
    if (end_of(until_next_look()) >= sleeps_until)
        return;
    sleeps_until = 0;
    eventfd_write(sooner, 1);
}

static void *take_calls(void *nothing)
{
    pthread_mutex_lock(&turn);
    struct myst_call call = {.application = given, .listener = calls};
    pthread_mutex_unlock(&turn);
    enum myst_taken taken;
    while (calls >= 0 && (taken = myst_seccomp_notify_take(&call)) != MYST_NO_MORE)
    {
        pthread_mutex_lock(&turn);
        const int stopped = myst_seccomp_notify_answer(&call, taken);
        if (stopped)
            end_all(stopped);
        wake_if_sooner();
        pthread_mutex_unlock(&turn);
    }
    return nothing;
}

void myst_begin_notify_thread(myst_end end, myst_timeout timeout)
{
    pthread_t thread;
    pthread_attr_t attributes;
    end_all = end;
    until_next_look = timeout;
    sooner = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    errno = sooner < 0 ? errno : pthread_create(&thread, &attributes, take_calls, NULL);
    if (sooner < 0 || errno != 0)
        myst_refuse_errno("cannot start a thread");
}

int myst_let_take(const struct myst_application *application, int listener)
{
    given = application;
    calls = listener;
    return sooner;
}

void myst_take_turn(void)
{
    eventfd_t count;
    pthread_mutex_lock(&turn);
    if (sleeps_until == 0)
        eventfd_read(sooner, &count);
    sleeps_until = 0;
}

int myst_give_turn(int timeout)
{
    sleeps_until = end_of(timeout);
    pthread_mutex_unlock(&turn);
    return timeout;
}
