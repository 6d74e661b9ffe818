/* notify.h - messages to the service manager (sd_notify(3)) that never block.
 *
 * The manager's socket takes messages at the manager's pace.  What it does not take at once waits
 * here, in order, and follows from the event loop.  A newer message replaces a waiting one about
 * the same, and at most NOTIFY_WAITING_MAX wait: a manager that does not read costs no more.
 *
 * One per process.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct sd_event sd_event;

enum { NOTIFY_WAITING_MAX = 8192 };

/* Is there a manager that wants messages?  Without one the functions below do nothing. */
bool notify_wanted(void);

/* Sends assignments, one a line, as in sd_notify(3).  Logs what fails. */
__attribute__((format(printf, 1, 2))) void notify_send(const char *format, ...);

/* The same with a copy of @fd.  0, also if it waits; -ENOTCONN: there is no manager; -ENOBUFS: too
 * many wait; -errno. */
int notify_send_fd(const char *text, int fd);

/* Takes back a waiting message.  False: it does not wait, so it may have been sent. */
bool notify_withdraw(const char *text);

/* From now on @loop sends what waits.  0 or -errno. */
int notify_watch(sd_event *loop);

/* Sends what waits, for at most @wait_ns, gives up the rest, and closes. */
void notify_end(uint64_t wait_ns);
