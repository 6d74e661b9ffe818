/* page.h - a digest on one page, for people or as one JSON object. */
#pragma once
#include <jansson.h>
#include "synfinctl/digest.h"
#include "synfinctl/print.h"

struct page {
	char *const *files; /* ends with NULL; NULL: the queue of the service */
	unsigned top;
	bool truncated; /* the queue does not reach back to the start of the service */
};

/* Prints it for people.  Sorts the peers of @d. */
void page_print(const struct page *page, struct digest *d, struct printer *p);

/* The same as an object; NULL: no memory. */
json_t *page_json(const struct page *page, struct digest *d);

/* What page_json() gives, for --help. */
#define PAGE_JSON_HELP                                                                             \
	"With --json: one object. Times are nanoseconds, counts are whole numbers:\n"              \
	"  files               names; absent: the queue of the service\n"                          \
	"  begin, end          of the first and the last segment\n"                                \
	"  frames_toserver, frames_toclient, bytes_..., retrans_...\n"                             \
	"  connections         total, failed, unanswered_yet, by_reason: of each\n"                \
	"                      tcp.reason connections, by_client, by_server, by_both\n"            \
	"  handshakes          complete, syn_again, synack_again; total_ns,\n"                     \
	"                      server_rtt_ns, client_rtt_ns: n p50 p90 p99 max\n"                  \
	"  worst_servers, worst_clients, retrans_servers, retrans_clients:\n"                      \
	"                      of each name, connections, failed, unanswered_yet,\n"               \
	"                      retries, by_reason, fin_by, rst_by, frames_...,\n"                  \
	"                      retrans_...; the worst first\n"                                     \
	"  other_servers, other_clients: the sum of those beyond 10,000\n"                         \
	"  slowest, unanswered, stuck, syn_floods: events (synfind-events(7))\n"                   \
	"  missed              midstream, lossy, gap_connections, gap_bytes,\n"                    \
	"                      frames_lost, events_lost, unassigned_segments; stats:\n"            \
	"                      decoders[0] of the stats event\n"
