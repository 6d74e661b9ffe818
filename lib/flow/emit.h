/* emit.h - fills and delivers every event of the tracker.  Decides nothing about state.
 *
 * An event that the sink has no room for is lost: the sink counts it.  One of an unwanted kind does
 * not reach the sink; nothing else changes by that.  Private to lib/flow, in the tracker's
 * thread. */
#pragma once
#include "flow/event.h"
#include "flow/tcp_fsm.h"

struct conn;
struct flow;
struct loss_window;
struct segment;
struct segment_base;
struct synflood_report;
struct tracker;

/* Applies t->cfg.unwanted. */
void emit_configure(struct tracker *t);

/* What caused an event. */
struct trigger {
	uint64_t ts_ns;
	uint8_t segment; /* enum event_segment */
	uint8_t basis;	 /* enum event_basis */
};

/* The segment @s as a trigger. */
struct trigger trigger_of(const struct segment *s, bool inferred);

/* tcp_open.  @mss: what the SYN offered, 0 for none, or NO_OFFER: there was no SYN; @prev_flow_id:
 * 0, or the connection that it takes over from. */
enum { NO_OFFER = -1 };
void emit_open(struct tracker *t, const struct flow *f, int mss, uint64_t prev_flow_id,
	       struct trigger trigger);

/* tcp_state, or tcp_established if @done is not NULL.  @moved_ns: how long each endpoint was in its
 * state, DURATION_UNKNOWN if it did not move. */
struct handshake {
	const struct conn *before; /* its end */
	uint64_t client_rtt_ns;
};
void emit_move(struct tracker *t, const struct flow *f, enum fsm_state before,
	       struct trigger trigger, const uint64_t moved_ns[static SIDES],
	       const struct handshake *done);

/* tcp_close.  @rst_by: the side whose RST it was, or -1; @moved_ns: NULL if no endpoint moved. */
void emit_close(struct tracker *t, const struct flow *f, enum fsm_state before,
		enum close_reason reason, int rst_by, struct trigger trigger,
		const uint64_t *moved_ns);

/* snapshot of @f, which is open.  Not delivered. */
void emit_snapshot(const struct tracker *t, const struct flow *f, struct event *ret);

/* tcp_segment: @s of @f, whose state is that after it.  Not delivered. */
void emit_segment(const struct tracker *t, const struct flow *f, enum fsm_side from,
		  const struct segment *s, const struct segment_base *base, unsigned endpoints,
		  struct event *ret);

/* tcp_retry of @from; its count is that of @f. */
void emit_retry(struct tracker *t, const struct flow *f, enum fsm_side from, uint64_t waited_ns,
		struct trigger trigger);

/* tcp_stuck. */
void emit_stuck(struct tracker *t, const struct flow *f, enum fsm_side waits_for,
		uint64_t silent_ns, struct trigger trigger);

/* Counts an anomaly; reports it if @report and if the limits allow. */
void emit_anomaly(struct tracker *t, struct flow *f, enum fsm_side from, enum anomaly kind,
		  struct trigger trigger, bool report);

/* capture_loss. */
void emit_loss(struct tracker *t, const struct loss_window *w, enum loss_reason reason,
	       uint64_t count, uint64_t freezes);

/* syn_flood, if there is something to report. */
void emit_synflood(struct tracker *t, const struct synflood_report *r);
