/* subscribers.h - the subscribers: who comes and is greeted, who is served, who goes, and who goes
 * on from an earlier process (docs/restart.md).  A part of the publisher: nobody else includes
 * it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct publisher;
struct subscriber;

/* Priorities of the loop: signals and the first look at new events come before idle chores.  Under
 * load, when draining has no end, draining and the subscribers take turns. */
enum { PRIORITY_EVENTS = 0, PRIORITY_ACCEPT = 10, PRIORITY_SUBSCRIBER = 20, PRIORITY_MORE = 20 };

/* Opens the socket that the options or the service manager name, if any, and accepts from now on.
 * Logs what fails: 0 or -errno. */
int subscribers_listen(struct publisher *p);

/* Standard output becomes a subscriber; when nobody reads it any more, the loop ends.  As above. */
int subscribers_stdout(struct publisher *p);

/* Takes over all that have a index.  What they were not sent yet is in the log. */
void subscribers_adopt(struct publisher *p);

/* Greets those who were accepted and stored by an earlier process, but not greeted any more. */
void subscribers_greet_late(struct publisher *p);

/* Sends, and asks for the descriptor's attention as far as needed.  False: it is gone. */
bool subscribers_serve(struct subscriber *s, uint64_t now_ns);

/* The same for all who do not wait for their descriptor. */
void subscribers_serve_all(struct publisher *p);

/* Sends to all of them what they take now.  True: somebody has not yet taken all. */
bool subscribers_send_all(struct publisher *p);

/* The options are other ones: who may not listen any more, or is to see something else, goes. */
void subscribers_recheck(struct publisher *p);

/* It goes: nobody after us knows it any more. */
void subscribers_remove(struct subscriber *s, const char *why);

/* Lets go of what this process has of all of them; the next one goes on. */
void subscribers_free(struct publisher *p);
