/* control_list.h - open connections of all decoders for one call on the control socket: those that
 * hold an expression, the first ones by an order.
 *
 * One decoder after the other lists its own (lister.h), so that the memory is that of two lists,
 * whatever the number of decoders.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "format/community.h"
#include "format/pseudonym.h"
#include "synfind/lister.h"

struct pipeline;
struct publisher;
struct strbuf;
struct where;

enum { CONTROL_LIST_MAX = 10000 }; /* rows */

/* Constant while a decoder lists. */
struct control_filter {
	struct where *where; /* owned; NULL: all */
	bool one;	     /* only the connection with .flow_id */
	uint64_t flow_id;
	bool pseudonyms; /* in place of addresses, also for the expression */
	struct pseudonym_key key;
	enum community_policy community;
	uint16_t community_seed;
	const struct pipeline *pipeline; /* of the decoder */
	const char *iface;		 /* of its ring */
};

struct control_list {
	struct control_filter filter;
	struct list *all; /* owned; complete and sorted once control_list_proceed() is false */
	bool cancelled;
	/* the decoders */
	struct list *part; /* what one of them lists now; owned */
	unsigned n, next;
	uint64_t *generations; /* of the decoders; owned */
};

/* A list of up to @limit rows in @order (0 of them: only the count); the filter is for the caller
 * to set.  NULL: no memory. */
struct control_list *control_list_new(const struct publisher *p, enum list_order order,
				      unsigned limit);

/* Has the next decoder list its own.  True: call it again in a while. */
bool control_list_proceed(struct control_list *l, const struct publisher *p);

/* The rest is not wanted: control_list_proceed() is false soon. */
void control_list_cancel(struct control_list *l);

/* Not while control_list_proceed() is true, unless all decoders have ended.  NULL is fine. */
void control_list_free(struct control_list *l);

/* Writes row @i of .all: the object that its line is, but without a seq.  Needs JSON_LINE_MAX
 * octets of space, however short it is. */
void control_list_row(const struct control_list *l, unsigned i, struct strbuf *t);
