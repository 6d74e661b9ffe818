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
	"With --json one object, whose numbers are whole, in nanoseconds and octets:\n"            \
	"  files                 names; absent: the service's queue\n"                             \
	"  begin, end            of the first and last segment (of the queue: of the events)\n"    \
	"  connections           {total, failed, unanswered_yet, by_reason: {fin: {connections,\n" \
	"                        by_client, by_server, by_both}, ...}}; reasons: "                 \
	"synfind-events(7)\n"                                                                      \
	"  frames_to..., bytes_to..., retrans_toserver, retrans_toclient\n"                        \
	"  handshakes            {complete, syn_again, synack_again, total_ns: {n, p50, p90, "     \
	"p99,\n"                                                                                   \
	"                        max}, server_rtt_ns, client_rtt_ns}\n"                            \
	"  worst_servers, worst_clients, retrans_servers, retrans_clients\n"                       \
	"                        [{name, connections, failed, unanswered_yet, by_reason, "         \
	"fin_by,\n"                                                                                \
	"                        rst_by, frames_toserver, ...}], the worst first\n"                \
	"  other_servers, other_clients  the sum of those beyond 10,000; absent: none\n"           \
	"  slowest, unanswered, stuck, syn_floods  [event], as synfind-events(7) has them\n"       \
	"  missed                {midstream, lossy, gap_connections, gap_bytes, frames_lost,\n"    \
	"                        events_lost, and decoders[0] of the stats event as 'stats'}\n"
