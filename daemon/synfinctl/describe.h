/* describe.h - what an event means, in a word and a sentence: one place for all commands.  Pure. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "synfinctl/out.h"

enum { DESCRIBE_TEXT = 320, DESCRIBE_FLOW = 120 };

struct description {
	const char *word; /* REFUSED, RETRY, ...; "" for a notice */
	enum out_style style;
	bool notice; /* of the stream, the capture or the daemon, not of a connection: "!!" */
	bool failed; /* the connection did not do what its client wanted */
	char text[DESCRIBE_TEXT];
};

/* Describes @event.  False: there is nothing to say of it to people (hello, subscribed, ...). */
bool describe(const json_t *event, struct description *ret);

/* "10.9.0.1:46114 > 10.9.0.2:9999": client and server; of a flood the server; "" if it has none. */
void describe_flow(const json_t *event, char ret[static DESCRIBE_FLOW]);

/* The reasons of a tcp_close that count as a failure, for an expression: 'refused','rst',... */
extern const char describe_failed_reasons[];

/* The word for a reason of tcp_close: REFUSED; "?" if it is a new one. */
const char *describe_reason(const char *reason);

/* The n-th reason, in the order of reports, good ones first; NULL: there are no more. */
const char *describe_nth_reason(unsigned n);

/* Does a connection that ended so not do what its client wanted? */
bool describe_reason_failed(const char *reason);

/* What a reason means, for who never heard of it: "both ends closed it"; "" if it is a new one. */
const char *describe_reason_meaning(const char *reason);
