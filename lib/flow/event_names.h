/* event_names.h - the words of the JSON lines, indexed by the enums of event.h and tcp_fsm.h. */
#pragma once
#include "base/conststr.h"
#include "flow/event.h"
#include "flow/tcp_fsm.h"

extern const struct conststr tcp_state_str[TCPS_STATES]; /* as OpenTelemetry spells them */
extern const struct conststr event_kind_str[EVENT_KINDS];
extern const struct conststr event_segment_str[SEGMENTS];
extern const struct conststr event_basis_str[BASES];
extern const struct conststr event_side_str[SIDES];
extern const struct conststr direction_basis_str[DIRECTIONS];
extern const struct conststr outstanding_str[OUTSTANDINGS];
extern const struct conststr close_reason_str[REASONS];
extern const struct conststr closed_by_str[CLOSED_BYS];
extern const struct conststr teardown_str[TEARDOWNS];
extern const struct conststr conn_state_str[CONN_STATES];
extern const struct conststr anomaly_str[ANOMALIES];
extern const struct conststr loss_reason_str[LOSS_REASONS];
extern const struct conststr synflood_phase_str[SYNFLOOD_PHASES];

/* Writes a letter for each of the TCP flags @flags (enum tcp_flag), terminated, as Scapy does;
 * returns their number. */
enum { TCP_FLAGS = 12 };
unsigned tcp_flags_text(unsigned flags, char ret[static TCP_FLAGS + 1]);

/* Writes the letters of @history, terminated; returns their number. */
unsigned history_text(uint64_t history, char ret[static HISTORY_LETTERS + 1]);
