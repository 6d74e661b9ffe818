/* bypass.h - connections whose predicted segments the kernel only counts: bpf/bypass.bpf.c.
 *
 * A segment that bpf/predict.h predicts proves nothing new, so it need not come here.  A connection
 * with many of them is *watched*: it gets a slot, shared with the filter, which then counts such
 * segments and drops them.  Before the next other segment is processed, the connection *catches
 * up*: it takes numbers and counts from the slot, as if it had processed each one.  So states,
 * closes and counts equal those of mode=all.
 *
 * The tracker's thread owns everything except the slots. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/key.h"
#include "flow/tcp_fsm.h"

struct conn;
struct bypass_key;
struct bypass_slot;
struct endpoints;
struct segment;
struct bypass;

/* Access to the slots; made by the loader of the filter, and borrowed. */
struct bypass_kernel {
	struct bypass_slot *slots; /* BYPASS_SLOTS of them, shared */
	uint32_t after_pkts;	   /* a connection is watched once either side sent so many */
	int64_t wall_minus_mono;   /* ns, updated now and then */
	/* Makes the filter use slot @slot for frames with @keys[direction], two of them.  0 or
	 * -errno. */
	int (*watch)(struct bypass_kernel *, const struct bypass_key *keys, uint32_t slot);
	/* Undoes that. */
	void (*forget)(struct bypass_kernel *, const struct bypass_key *keys);
};

/* NULL: no memory. */
struct bypass *bypass_new(struct bypass_kernel *kernel);

/* Watches no connection any more.  NULL is allowed. */
void bypass_free(struct bypass *b);

/* Bypasses no connection any more that has one of the endpoints @e (borrowed until the next call;
 * NULL: none): each of their segments comes here.  They catch up at the next one. */
void bypass_except(struct bypass *b, const struct endpoints *e);

/* The same for all connections, until it is called with false. */
void bypass_pause(struct bypass *b, bool paused);

/* Walks the watched connections: *@at is 0 at first.  False: that was all.  The one that it returns
 * may be forgotten before the next call. */
bool bypass_next(const struct bypass *b, uint32_t *at, struct flow_key *ret_key,
		 uint64_t *ret_hash);

/* Begins with another filter, @kernel; each connection was settled.  The former one's slots are not
 * used any more. */
void bypass_renew(struct bypass *b, struct bypass_kernel *kernel);

/* After a segment of @c, whose key has @hash: watches it, or watches it again, if that pays.  At
 * most BYPASS_SLOTS are watched. */
void bypass_consider(struct bypass *b, const struct conn *c, const struct flow_key *key,
		     uint64_t hash);

/* Before segment @s: catches up if the filter stopped at it.  Returns the number of bypassed
 * segments. */
uint64_t bypass_catch_up(struct bypass *b, struct conn *c, uint64_t hash, enum fsm_side from,
			 const struct segment *s);

/* @c is about to time out or to be removed: catches up with the counts so far.  @forget: ends the
 * watch.  Returns as above. */
uint64_t bypass_settle(struct bypass *b, struct conn *c, uint64_t hash, bool forget);

/* Adds to @c, a copy, what the kernel has counted of it until now.  The watch goes on. */
void bypass_peek(const struct bypass *b, struct conn *c, uint64_t hash);

/* Calls @touch, with the time of the newest bypassed segment, for each watched connection that had
 * any since the last call: it is not silent. */
void bypass_refresh(struct bypass *b,
		    void (*touch)(void *arg, const struct flow_key *key, uint64_t hash,
				  uint64_t last_ns),
		    void *arg);
