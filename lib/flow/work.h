/* work.h - what the parts of the tracker share: private to the files below.
 *
 *   tracker.c  the entrance: whose segment is it?
 *   fastpath.c    the usual SYN and SYN-ACK by a short way
 *   input.c     one segment of a connection that is known, or the first of a new one
 *   incarnation.c  a SYN that contests a 4-tuple which is taken
 *   room.c     time and memory: timeouts, the sweep, what is given up when a table is full
 *   synflood.c    attempts of which nothing is told, since their server is flooded with them
 *   work.c     entries in the table, and the telling of events
 *
 * All of it runs in the tracker's thread, without allocation. */
#pragma once
#include "base/cc.h"
#include "base/undo.h"
#include "flow/bypass.h"
#include "flow/conn.h"
#include "flow/synflood.h"
#include "flow/segment_check.h"
#include "flow/table.h"
#include "flow/emit.h"
#include "flow/tracker.h"
#include "wire/segment.h"

struct tcpopt;

enum {
	LOSS_WINDOWS = 64,	 /* remembered; older ones are merged into the oldest */
	RESYNC_CANDIDATES = 256, /* refused ones that are remembered, a power of two */
	GAP_FLOWS = 4096,	 /* connections of which gaps are remembered, a power of two */
	/* A slot that goes tells its beginning, if that was deferred, and its end, and the same of
	 * an attempt beside it; then floods end. */
	STEP_SLOTS = (STEP_EVENTS - SYNFLOODS) / 6,
};

struct loss_window {
	uint64_t from_ns, to_ns;
};

/* At the start of the region that the caller lends; the table follows.  Another process may go on
 * with it: so nothing that it needs is a pointer, but for the view at the start. */
struct tracker {
	/* The process's own: tracker_adopt() makes it anew. */
	struct tracker_config cfg; /* but for the secret, which is kept */
	struct table table;
	uint32_t limit[SHAPES]; /* what is wanted of the table's maximum */
	/* Of a server: entries from which on attempts are deferred, that make a flood, and that are
	 * a danger to the table. */
	uint32_t synflood_from, synflood_limit, synflood_danger;
	struct bypass *bypass; /* NULL: not wanted */
	struct undo *undo;     /* NULL: nobody will go on with it */
	bool fastpath;	       /* short ways may be taken */
	struct event_sink *sink;
	struct tracker_counters *count;

	/* Kept from here on.  What nearly every transaction changes, as one: tracker_begin(). */
	uint64_t now_ns; /* the newest time seen */
	uint64_t sweep_at_ns;
	uint32_t sweep_slot[TABLE_POOLS], evict_slot[TABLE_POOLS];
	uint32_t sweep_pools,
		sweep_left; /* still to be looked at: pools, slots of the present one */
	uint32_t close_slot[TABLE_POOLS];	     /* tracker_close_some() */
	uint64_t anomaly_second, anomalies_reported; /* in that second */
	unsigned losses;
	struct synfloods floods; /* but for the slots: */

	/* What is saved where it is changed. */
	uint64_t layout; /* 0: none yet */
	uint64_t incarnation_ns
		[RESYNC_CANDIDATES]; /* starts of the newest attempts that were deferred, by hash */
	struct loss_window loss[LOSS_WINDOWS];
	struct resync_candidate candidate[RESYNC_CANDIDATES]; /* by hash */
	struct synflood_servers servers[SERVERS];	      /* by hash of the server */
	struct gaps gaps[GAP_FLOWS];			      /* by hash */
};

/* One connection under work: what the table has of it is unpacked into `c`, and put back by
 * flow_store(). */
struct flow {
	struct flow_key key;
	uint64_t hash;
	table_ref ref; /* TABLE_NONE: not in the table */
	struct conn c[1];
};

/* A SYN entry, the hash of its key, and the server for which it waits. */
struct waiting {
	table_ref ref;
	struct syn_entry *h;
	uint64_t hash;
	struct synflood_server server;
};

/* Of captures with microseconds: starts that are closer get a nanosecond of difference, since the
 * flow id follows from the start. */
enum { CLOCK_TICK_NS = 1000 };

/* Begins @c behind another one that began in the same tick. */
static inline void conn_begin_after(struct conn *c, uint64_t other_start_ns)
{
	if (other_start_ns - c->start_ns < CLOCK_TICK_NS)
		c->start_ns = c->last_ns = other_start_ns + 1;
}

/* Time since the start; 0 for what the clock puts before it. */
static inline uint64_t conn_offset(const struct conn *c, uint64_t ts_ns)
{
	return ts_ns > c->start_ns ? ts_ns - c->start_ns : 0;
}

/* Counts @s, sent by @from with @payload octets that count as such; it is the newest. */
static inline void conn_account(struct conn *c, enum fsm_side from, const struct segment *s,
				uint32_t payload)
{
	uint32_t header = s->wire_len - payload;

	if (unlikely(!conn_count_low(&c->hot, from, s->wire_segs, header, payload)))
		conn_count(c, from, s->wire_segs, header, payload);
	if (s->ts_ns > c->last_ns)
		c->last_ns = s->ts_ns;
}

/* An ACK or data in PHASE_OPEN: there is a letter for it. */
static inline void conn_mark_noted(struct conn *c, enum fsm_side from, bool data)
{
	c->noted |= conn_note_bit(from, data) & 15;
	c->noted_order = CONN_ORDER_WRITTEN;
}

/* conn_note_history() for fastpath_predict(): the first of each kind is a letter. */
static inline void conn_note_predicted(struct conn *c, enum fsm_side from, const struct segment *s)
{
	bool data = s->payload_len, fin = s->flags & TCP_FIN;
	bool open = fsm_phase_of(c->state) == PHASE_OPEN;

	if (!fin && open && c->noted & conn_note_bit(from, data))
		return;
	c->complete |= (fin ? COMPLETE_FIN : 0) | (data ? COMPLETE_DATA : COMPLETE_ACK);
	if (!fin && open)
		conn_mark_noted(c, from, data);
	conn_history_add(c, from, fin ? HISTORY_FIN : data ? HISTORY_DATA : HISTORY_ACK);
}

static inline uint64_t flow_own_id(const struct flow *f)
{
	return flow_id_of(&f->key, f->c->start_ns, f->c->isn);
}

/* Was nothing told of @c yet? */
static inline bool conn_deferred(const struct conn *c)
{
	return fsm_offering(c->state) && c->offer.deferred;
}

/* Is the entry @r one of which nothing was told yet? */
static inline bool entry_deferred(const struct tracker *t, table_ref r)
{
	return table_shape_of(r) == SHAPE_SYN && table_syn(&t->table, r)->deferred;
}

/* ---- work.c --------------------------------------------------------------------------------- */

/* Makes @f stand for the entry @ref, to be changed and put back; key and hash are set already. */
void flow_load(const struct tracker *t, struct flow *f, table_ref ref);

/* Puts a connection into the table, in the smallest shape that holds it; a full entry stays
 * one. */
void flow_store(struct tracker *t, struct flow *f);

/* Frees the entry; nothing is told. */
void flow_remove(struct tracker *t, struct flow *f);

/* The same of the SYN entry @ref in @state, of an attempt at @s. */
void flow_remove_syn(struct tracker *t, uint64_t hash, table_ref ref, enum fsm_state state,
		     const struct synflood_server *s);

/* A new SYN entry for an attempt at @s; a table that is full gives up another one for it, but not
 * @keep. */
table_ref flow_slot_syn(struct tracker *t, const struct flow *f, const struct synflood_server *s,
			table_ref keep);

/* Keeps the gauges of states; FSM_NONE: no entry. */
void flow_count_state(struct tracker *t, enum fsm_state from, enum fsm_state to);

/* Sets the gauges of entries: last of all in each call from outside. */
void flow_gauges(struct tracker *t);

/* Room for the next event, or NULL: it is lost; then event_end(). */
struct event *event_begin(struct tracker *t);
void event_end(struct tracker *t);

/* The segment as a word, and as the cause of an event. */
enum event_segment segment_kind(const struct segment *s);
struct trigger trigger_of(const struct segment *s, bool inferred);

/* Counts an anomaly; tells it, if @tell and if not too many were told. */
void flow_emit_anomaly(struct tracker *t, struct flow *f, enum fsm_side from, unsigned kind,
		       struct trigger trigger, bool emit);

/* Tells tcp_open.  @opt: what the SYN offered, or NULL; @prev_flow_id: 0, or what it takes over. */
void flow_emit_open(struct tracker *t, const struct flow *f, const struct tcpopt *opt, bool ecn,
		    uint64_t prev_flow_id, struct trigger trigger);

/* Tells the tcp_open of an attempt that was deferred back, as it was then: @f has seen nothing but
 * SYNs and SYN-ACKs.  @mss: what the SYN offered. */
void flow_emit_deferred(struct tracker *t, const struct flow *f, uint16_t mss,
			uint64_t prev_flow_id);

/* Tells tcp_close.  @rst_by: the side whose RST it was, or -1; @moved_ns: NULL if no end moved. */
void flow_emit_close(struct tracker *t, struct flow *f, enum fsm_state before,
		     enum close_reason reason, int rst_by, struct trigger trigger,
		     const uint64_t *moved_ns);

/* Did the capture lose frames while this connection lived? */
bool flow_was_lossy(const struct tracker *t, const struct conn *c);

/* Closes a connection for a reason that no segment of its own gave: its ends stay as they are, as
 * far as anyone knows.  The entry is removed. */
void flow_give_up(struct tracker *t, struct flow *f, enum close_reason reason, int rst_by,
		  struct trigger trigger);

/* With cfg.bulk: catches up before @f is judged without a segment; @forget: it goes. */
void flow_settle(struct tracker *t, struct flow *f, bool forget);

/* What the SYN entry @ref is of. */
void flow_waits(const struct tracker *t, table_ref ref, struct waiting *ret);

/* ---- room.c --------------------------------------------------------------------------------- */

/* Has the slot @r outlived its time?  A look at a few octets of it, before any work is done. */
bool flow_due(const struct tracker *t, table_ref r);

/* Lets an entry go for silence if its time has come; true: it is gone. */
bool flow_expire(struct tracker *t, struct flow *f);

/* Lets the entry of @f go for @reason. */
void flow_end(struct tracker *t, struct flow *f, enum close_reason reason, int rst_by,
	      struct trigger trigger);

/* Asks for the index line of the slot @r, if there is such an entry: it will be given up soon. */
void flow_prefetch(const struct tracker *t, table_ref r);

/* Loads the entry @r. */
void flow_at(const struct tracker *t, struct flow *f, table_ref r);

/* Gives one entry of @shape up, but not @keep; false: there is none. */
bool flow_make_room(struct tracker *t, enum table_shape shape, table_ref keep);

/* ---- input.c --------------------------------------------------------------------------------- */

/* The first segment of a connection; @old, if not NULL, is the one that it takes over from. */
void input_first(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s,
		 const struct conn *old);

/* A segment of a connection that is known and not over. */
void input_segment(struct tracker *t, struct flow *f, enum fsm_side from, const struct segment *s);

/* The connection goes to @to.  How long each end was where it was, if it moved: @ret_moved_ns. */
bool flow_change(struct tracker *t, struct conn *c, enum fsm_state to, uint64_t ts_ns,
		 uint64_t ret_moved_ns[static SIDES]);

/* Parts of a step: an entry for what @s begins, the counts, the letters, the offers. */
void conn_begin(struct conn *c, const struct segment *s, unsigned sender, const struct conn *old);
void conn_count_retrans(struct conn *c, enum fsm_side from);
void conn_note_history(struct conn *c, enum fsm_side from, const struct segment *s,
		       struct learned l, struct verdict p);
void conn_learn_offer(struct conn *c, enum fsm_side from, const struct segment *s,
		      const struct tcpopt *o);

/* RFC 3168 6.1.1: a SYN asks for ECN with both flags, a SYN-ACK agrees with ECE alone. */
static inline bool conn_asks_ecn(const struct segment *s)
{
	return (s->flags & (TCP_ECE | TCP_CWR)) ==
	       (s->flags & TCP_ACK ? TCP_ECE : TCP_ECE | TCP_CWR);
}

static inline struct conn_where conn_where_of(const struct segment *s)
{
	return (struct conn_where){ .iface = s->iface,
				    .outer = s->nvlan > 0 ? s->vlan[0] & 0xfff : VLAN_NONE,
				    .inner = s->nvlan > 1 ? s->vlan[1] & 0xfff : VLAN_NONE };
}

/* ---- fastpath.c
 * -------------------------------------------------------------------------------- */

/* As input_first() and input_segment(); false: these must do it, nothing was done.  Key and hash of
 * @f are set, @ref is the entry of the key. */
bool fastpath_syn(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s);
bool fastpath_syn_ack(struct tracker *t, struct flow *f, table_ref ref, unsigned sender,
		      const struct segment *s);

/* As flow_give_up(), of a SYN entry of which nothing was told, nor is to be. */
bool fastpath_drop(struct tracker *t, const struct waiting *w, enum close_reason reason);

/* The same of the SYN entry @r. */
bool fastpath_drop_at(struct tracker *t, table_ref r, enum close_reason reason);

/* ---- incarnation.c
 * ------------------------------------------------------------------------------ */

/* May @s begin a new connection at once, though the old one is not forgotten? */
bool incarnation_supersedes(const struct conn *c, enum fsm_side from, const struct segment *s);

/* Holds @s as an attempt that nobody has answered yet, beside the old connection @old.  False: it
 * cannot be deferred. */
bool incarnation_hold(struct tracker *t, struct flow *old, unsigned sender,
		      const struct segment *s);

/* A pending attempt that nothing answered: told now if it was one, and forgotten. */
void incarnation_settle(struct tracker *t, struct flow *f, enum close_reason reason,
			struct trigger trigger);

/* The old connection @old goes: an attempt beside it that it outlived was a stray SYN, and goes
 * with it. */
void incarnation_orphan(struct tracker *t, const struct flow *old);

/* A segment of a 4-tuple with a pending attempt @new_ref and, maybe, an old connection.  Returns
 * the entry that the segment is for, or TABLE_NONE; *ret_done: nothing is left to do. */
table_ref incarnation_input(struct tracker *t, const struct flow *f, table_ref new_ref,
			    table_ref old_ref, unsigned sender, const struct segment *s,
			    bool *ret_done);
