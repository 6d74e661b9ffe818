/* control_methods.h - the methods of io.synfind.Control, and Varlink's own: what each one answers.
 *
 * Every method only reads.  An answer is bounded: a long list comes in pages, the next of which
 * begins where the caller says or, with `more`, where the last one ended.  Main thread only. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct capture;
struct control_list;
struct options;
struct publisher;

/* Whom the methods ask; all is borrowed. */
struct control_view {
	const struct options *o;
	const struct publisher *publisher;
	const struct capture *capture;
	uint64_t started_ns, started_mono_ns; /* of this process: wall clock and monotonic */
};

struct control_request {
	const struct control_view *view;
	const char *method;	  /* interface.Method */
	const json_t *parameters; /* an object; NULL: none */
	bool more;		  /* the caller takes several replies */
	bool pseudonyms;	  /* it may not see addresses */
	uint64_t from;		  /* where this page begins; 0: at the beginning */
	/* What a call of several turns has so far; the caller frees it after the call. */
	struct control_list *list;
	json_t *rows;
	/* the result */
	const char *error; /* its name; NULL: none */
	char *json;	   /* the parameters, in place of those returned; owned; NULL: none */
	size_t json_octets;
	bool continues; /* another reply follows, from .from on */
	bool collects;	/* no reply yet: first all decoders are to add to .list */
	bool again;	/* no reply yet: it goes on at the next turn */
};

/* Answers, or fails with .error set: returns the parameters of the reply, for the caller to free.
 * NULL: no memory, or no reply yet. */
json_t *control_answer(struct control_request *q);

#define CONTROL_INTERFACE "io.synfind.Control"
