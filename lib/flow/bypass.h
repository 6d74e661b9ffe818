/* bypass.h - connections whose plain segments the kernel keeps to itself: bpf/bypass.bpf.c.
 *
 * What fastpath_predict_open() finds proves nothing that is not known, so it need not come here.  A
 * connection that has many such segments is *watched*: it gets a slot, shared with the filter,
 * which then bypasses and counts them.  Before the first segment that is not plain is fed, the
 * connection *catches up*: it takes numbers and counts from the slot, and stands where it would
 * stand had it been fed each one.  So states, closes and counts are those of mode=all by
 * construction.
 *
 * The tracker's thread owns all of it but the slots. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/key.h"
#include "flow/tcp_fsm.h"

struct conn;
struct bypass_key;
struct bypass_slot;
struct segment;
struct bypass;

/* How the slots are reached; made by who loaded the filter, and borrowed. */
struct bypass_kernel {
	struct bypass_slot *slots; /* BYPASS_SLOTS of them, shared */
	uint32_t after_pkts;	   /* a connection is watched once either side sent so many */
	int64_t wall_minus_mono;   /* ns, now and then brought up to date */
	/* Makes the filter look at slot @slot for frames with @keys[direction], two of them.  0 or
	 * -errno. */
	int (*watch)(struct bypass_kernel *, const struct bypass_key *keys, uint32_t slot);
	/* The filter forgets them. */
	void (*forget)(struct bypass_kernel *, const struct bypass_key *keys);
};

/* NULL: no memory. */
struct bypass *bypass_new(struct bypass_kernel *kernel);

/* NULL is fine.  Watched connections are forgotten. */
void bypass_free(struct bypass *b);

/* A segment of @c was fed, under @hash: is it worth to be watched, or to be watched again?
 * At most BYPASS_SLOTS are. */
void bypass_consider(struct bypass *b, const struct conn *c, const struct flow_key *key,
		     uint64_t hash);

/* @s comes next: catches up if the filter stopped before it.  Returns the number of segments that
 * were bypassed. */
uint64_t bypass_catch_up(struct bypass *b, struct conn *c, uint64_t hash, enum fsm_side from,
			 const struct segment *s);

/* No segment tells, but @c is about to be judged by its time, or to go: catches up with what there
 * is, and @forget: it is watched no more.  Returns as above. */
uint64_t bypass_settle(struct bypass *b, struct conn *c, uint64_t hash, bool forget);

/* Watched connections are not silent: @touch(@arg, hash, time of the newest bypassed segment) for
 * each of them that had any since the last time. */
void bypass_refresh(struct bypass *b,
		    void (*touch)(void *arg, const struct flow_key *key, uint64_t hash,
				  uint64_t last_ns),
		    void *arg);
