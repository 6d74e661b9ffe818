/* emit.h - fills event records from a connection.  No decisions about state are made here. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/conn.h"
#include "flow/event.h"
#include "flow/key.h"

struct tcpopt;

/* What brought an event about. */
struct trigger {
	uint64_t ts_ns;
	uint8_t segment; /* enum event_segment */
	uint8_t basis;	 /* enum event_basis */
};

/* What every TCP event has.  @c in its state after the event, @before in prev_state. */
void emit_common(struct event *e, enum event_kind kind, const struct flow_key *key,
		 const struct conn *c, enum fsm_state before, struct trigger trigger);

/* @syn: what the SYN offered, or NULL; @prev_flow_id: of the connection it takes over from, or
 * 0. */
void emit_open(struct event *e, const struct tcpopt *syn, bool ecn, uint64_t prev_flow_id);

/* @c as it was before the handshake's facts were overwritten (fsm_offering()).  Times that rest on
 * segments which were not seen are left out. */
void emit_established(struct event *e, const struct conn *c, enum fsm_state before,
		      uint64_t now_ns);

/* @rst_by: the side whose RST ended it, or -1. */
void emit_close(struct event *e, const struct conn *c, enum fsm_state before,
		enum close_reason reason, int rst_by, bool lossy);

/* A line of the series about the server that is end 0 of @k, on @iface: all but the counts. */
void emit_flood(struct event *e, enum synflood_phase phase, const struct flow_key *k,
		uint16_t iface, uint64_t now_ns, uint64_t started_ns);

/* Behind emit_close(), in control mode: takes back what nobody can know who saw no other
 * segments. */
void emit_close_control_mode(struct event *e, const struct conn *c, enum fsm_state before);
