/* answers.h - which SYN-ACK did the client's ACK answer?  Pure.
 *
 * After a repetition the time of an ACK alone does not say (Karn's algorithm, RFC 6298 3).  With
 * timestamps it does, if it echoes that of a repetition (RFC 7323 4).  One that echoes the first
 * SYN-ACK's may still answer a later one: the ACK of the first was lost, and an established client
 * answers a repetition with what it has (RFC 9293 3.10.7.4).  Then it is not known. */
#pragma once
#include <stdint.h>
#include "flow/recall.h"

struct conn;
struct segment;

enum { ANSWERS_MAX = 4 }; /* the newest repetitions; a server sends no more in 15 s */

struct answers {
	struct recall_head head;
	uint64_t start_ns; /* of the connection: 4-tuples are used again */
	struct answer {
		uint64_t ts_ns;
		uint32_t tsval;
		uint32_t stamped; /* 0: without a timestamp */
	} repeated[ANSWERS_MAX];
	uint32_t n;
};

/* A SYN-ACK of @c was repeated by @s; @c is as before. */
void answers_add(struct answers *a, const struct conn *c, const struct segment *s);

/* Ns from the SYN-ACK of @c that the client's ACK @s answers to @s, or DURATION_UNKNOWN.  @a: what
 * is remembered of its repetitions, or NULL. */
uint64_t answers_rtt(const struct answers *a, const struct conn *c, const struct segment *s);
