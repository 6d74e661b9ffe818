/* varlink.h - Varlink's framing (https://varlink.org/Interface-Definition): a call is a JSON object
 * that ends with a NUL, and so is each reply.
 *
 * A call may also end with a newline, outside of its brackets; its replies then end with newlines,
 * so that socat and jq can be clients.  Pure: octets in, octets out; the owner has the socket.
 * Memory is bounded by VARLINK_CALL_MAX and VARLINK_PENDING_MAX. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum {
	VARLINK_CALL_MAX = 64 << 10,   /* octets of a call, its end included */
	VARLINK_PENDING_MAX = 1 << 20, /* of replies that are not sent */
	VARLINK_MESSAGE_MAX = 320,
	VARLINK_END_ANY = 1, /* neither of both */
};

/* Octets that came and are not answered. */
struct varlink_input {
	char *octets;	    /* owned */
	size_t at, n, size; /* octets @at to @n wait */
	/* Of the first call: its octets that were looked at, and what they are inside of. */
	size_t scanned;
	unsigned depth; /* of brackets */
	bool begun, in_string, escaped;
};

/* Space for more octets: *@ret_n, at least one.  NULL: the call that is there is too long, or there
 * is no memory. */
char *varlink_input_space(struct varlink_input *in, size_t *ret_n);

/* @n octets were written there. */
static inline void varlink_input_add(struct varlink_input *in, size_t n)
{
	in->n += n;
}

/* The first call: its length without its end, which is NUL or newline.  Its octets are borrowed,
 * until @in changes.  Skips empty ones.  -EAGAIN: none is complete. */
ssize_t varlink_input_call(struct varlink_input *in, const char **ret, char *ret_end);

/* Removes the first call, of @n octets and its end. */
void varlink_input_drop(struct varlink_input *in, size_t n);

/* Frees it.  A zeroed one is fine. */
void varlink_input_done(struct varlink_input *in);

struct varlink_call {
	json_t *object;	    /* owned; the others are borrowed from it */
	const char *method; /* interface.Method */
	json_t *parameters; /* an object, or NULL: none */
	bool more, oneway;
};

/* Parses a call of @n octets.  0; -EINVAL with the cause, as UTF-8, in @reterr. */
int varlink_call_parse(const char *octets, size_t n, struct varlink_call *ret,
		       char reterr[static VARLINK_MESSAGE_MAX]);

/* Frees it.  A zeroed one is fine. */
void varlink_call_done(struct varlink_call *call);

/* Replies that are not sent: octets @at to @n. */
struct varlink_output {
	char *octets; /* owned */
	size_t at, n, size;
};

/* Appends a reply.  @error: its name; NULL: none.  @parameters: an object, which is freed; NULL
 * stands for a failure to make it.  @end: how the call ended; VARLINK_END_ANY: that is not known,
 * so the reply ends with a newline and a NUL.  0; -ENOMEM; -ENOBUFS: too much is pending. */
int varlink_output_reply(struct varlink_output *out, const char *error, json_t *parameters,
			 bool continues, char end);

/* The same of parameters that are @n octets of JSON. */
int varlink_output_text(struct varlink_output *out, const char *parameters, size_t n,
			bool continues, char end);

/* Octets up to @n of them were sent. */
void varlink_output_sent(struct varlink_output *out, size_t n);

/* Frees it.  A zeroed one is fine. */
void varlink_output_done(struct varlink_output *out);
