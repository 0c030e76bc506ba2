/* A thread of process 1 that waits for the application's calls, so that each is taken up at once: until then a signal
 * ends it with EINTR. It takes turns with the first thread, which does the rest. */
#ifndef MYST_NOTIFY_THREAD_H
#define MYST_NOTIFY_THREAD_H

#include "../common/application.h"

/* Called with the turn, when the application must be stopped; does not return. */
typedef void (*myst_end)(int status);

/* Milliseconds until process 1 has something to do of itself, for poll; -1: nothing. Called with the turn. */
typedef int (*myst_timeout)(void);

/* Makes the thread, which waits. Called before the application is started, and with the turn: the thread has the number
 * of the process that started it under Mystikos (processes.h). */
void myst_begin_notify_thread(myst_end end, myst_timeout timeout);

/* Lets it take the calls, or ends it where the listener is -1. Returns a descriptor that can be read from when the
 * timeout has become shorter than the first thread knows. */
int myst_let_take(const struct myst_application *application, int listener);

/* The turn of the first thread, which sleeps from when it gives it away: `timeout` milliseconds, which are returned. */
void myst_take_turn(void);
int myst_give_turn(int timeout);

#endif
