/* subscribers.h - all subscribers: accepting, greeting, serving and removing them, and resuming
 * those of an earlier process (docs/restart.md).  Part of the publisher. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct publisher;
struct subscriber;

/* Priorities of the event loop: signals and new events come before idle chores.  Under load
 * draining never ends; then draining and the subscribers alternate. */
enum { PRIORITY_EVENTS = 0, PRIORITY_ACCEPT = 10, PRIORITY_SUBSCRIBER = 20, PRIORITY_MORE = 20 };

/* Opens the socket of the options or the service manager, if any, and accepts from now on.  Logs
 * what fails; 0 or -errno. */
int subscribers_listen(struct publisher *p);

/* Makes standard output a subscriber.  The loop ends when it is closed.  Logs what fails; 0 or
 * -errno. */
int subscribers_stdout(struct publisher *p);

/* Resumes the subscribers of an earlier process.  The log still has what they did not get. */
void subscribers_adopt(struct publisher *p);

/* Greets subscribers that an earlier process accepted and stored, but did not greet. */
void subscribers_greet_late(struct publisher *p);

/* Sends, and polls the descriptor if it blocks.  False: the subscriber was removed. */
bool subscribers_serve(struct subscriber *s, uint64_t now_ns);

/* Serves all subscribers that do not wait for their descriptor. */
void subscribers_serve_all(struct publisher *p);

/* Makes sure that no subscriber of @log still needs the octets that the next @n overwrite.  Ready
 * subscribers are served first, because a burst may be longer than the log; the others skip.
 * Call it without an open transaction: the skips are final before anything is overwritten. */
void subscribers_clear(struct publisher *p, unsigned log, size_t n);

/* Sends to all of them once.  True: some have not got everything yet. */
bool subscribers_send_all(struct publisher *p);

/* After a reload: removes those that have lost access or are to see another log. */
void subscribers_recheck(struct publisher *p);

/* Disconnects it for good: the next process does not resume it. */
void subscribers_remove(struct subscriber *s, const char *why);

/* Frees all of them in this process only: the next process resumes them. */
void subscribers_free(struct publisher *p);
