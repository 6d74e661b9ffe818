/* digest.h - what the event lines of a capture, or of the last minutes, say together.
 *
 * Memory is bounded, whatever the lines hold and however many there are. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "synfinctl/fields.h"
#include "synfinctl/peers.h"
#include "synfinctl/quantile.h"
#include "synfinctl/top.h"

struct where; /* "format/where.h" */

/* The kinds of event that it counts, for synfind --events and for an expression. */
#define DIGEST_EVENTS "tcp_established,tcp_retry,tcp_stuck,tcp_close,syn_flood,stats"
#define DIGEST_KINDS                                                                               \
	"'tcp_established','tcp_retry','tcp_stuck','tcp_close','syn_flood','capture_loss'"

enum { DIGEST_TIME = 31, DIGEST_REASON_NEW = PEER_REASONS - 1, DIGEST_STUCK_MAX = 1000 };

struct digest_outcome {
	uint64_t connections;
	uint64_t by[SIDES], by_both; /* who sent the first FIN, or the RST */
};

struct digest {
	struct fields f;
	const struct where *where; /* borrowed; NULL: every connection */
	uint64_t events, garbage;

	uint64_t connections, failed;
	struct digest_outcome outcomes[PEER_REASONS]; /* by describe_nth_reason(), then new ones */
	/* Of those that were open at the end: what was not acknowledged. */
	uint64_t open_syn, open_syn_ack, open_data, open_fin;
	uint64_t unanswered_yet; /* of open_syn and open_syn_ack: for a second or longer; failed */

	uint64_t frames[SIDES], octets[SIDES], retrans[SIDES]; /* by the side that sent them */
	struct quantiles total, server, client;		       /* of handshakes, ns */
	uint64_t established, syn_again, synack_again;
	uint64_t retries[SIDES]; /* events tcp_retry */

	uint64_t midstream, lossy, gapped, gap_octets;
	uint64_t frames_lost, events_lost;

	/* RFC 3339, or "": of segments of connections that are over, and of events. */
	char begin[DIGEST_TIME], end[DIGEST_TIME], first[DIGEST_TIME], last[DIGEST_TIME];
	struct peers servers, clients;
	struct top slowest, stuck, unanswered, floods;
	char *stats; /* owned: the last stats line; NULL: none came */
	size_t stats_n;
};

/* Keeps @top lines of each list.  0; -ENOMEM.  Free it with digest_done(). */
int digest_init(struct digest *d, unsigned top, const struct where *where);

/* Counts a line. */
void digest_line(struct digest *d, const char *line, size_t n);

/* The sum of a counter over the decoders of a stats line: "verdicts.tcp". */
uint64_t digest_stats_sum(const char *line, size_t n, const char *path);

/* Segments that belong to no connection: they came after its end, or open none.  0 if that is not
 * known: not all connections are counted, or there was no stats line. */
uint64_t digest_unassigned(const struct digest *d);

/* Frees it; a zeroed one is fine. */
void digest_done(struct digest *d);
