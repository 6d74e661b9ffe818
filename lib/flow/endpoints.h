/* endpoints.h - endpoints whose segments are reported one by one, and how many of them at most.
 *
 * A list has ENDPOINTS_MAX places; a set of them is a sum of 1 << place.  Pure. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct event;
struct flow_key;
struct segment;

enum { ENDPOINTS_MAX = 16 };

/* An address or network, a port, or both. */
struct endpoint {
	uint8_t addr[16]; /* network order; IPv4: the first 4 octets; 0 behind the prefix */
	uint8_t ip_v;	  /* 4 or 6; 0: any address */
	uint8_t prefix;	  /* bits of addr that count */
	bool has_port;	  /* else any port */
	uint16_t port;
};

struct endpoints {
	unsigned used; /* set of the places in use */
	struct endpoint at[ENDPOINTS_MAX];
};

/* Sets *ret to the address or network @text ("10.0.0.0/8"), not its port; false: it is none. */
bool endpoint_parse(struct endpoint *ret, const char *text);

/* The address or network as text. */
enum { ENDPOINT_TEXT_MAX = 50 };
void endpoint_text(const struct endpoint *e, char ret[static ENDPOINT_TEXT_MAX]);

/* Is it the same one? */
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);

/* The places whose endpoint is one of the two ends. */
unsigned endpoints_of_segment(const struct endpoints *e, const struct segment *s);
unsigned endpoints_of_event(const struct endpoints *e, const struct event *v);
unsigned endpoints_of_key(const struct endpoints *e, const struct flow_key *k);

/* ---- limits ---------------------------------------------------------------------------------- */

enum endpoint_skip {
	ENDPOINT_SKIP_RATE, /* more in a second than the limit of each endpoint */
	ENDPOINT_SKIP_RING, /* the consumer was too slow */
	ENDPOINT_SKIPS
};

/* Segments that were not reported. */
struct endpoint_skipped {
	uint64_t count;
	uint16_t of; /* set of the endpoints */
	uint8_t why; /* enum endpoint_skip */
};

/* Kept memory, zeroed at first.  The caller saves it as a whole before it changes. */
struct endpoint_meter {
	uint64_t second;	   /* of capture time */
	uint32_t n[ENDPOINTS_MAX]; /* segments of each in that second */
	uint32_t skips;
	struct endpoint_skipped skipped[ENDPOINTS_MAX];
};

/* May a segment at @ts_ns with the endpoints @of be reported?  Yes, if one of them has had less
 * than @rate in this second. */
bool endpoint_meter_pass(struct endpoint_meter *m, unsigned of, uint64_t ts_ns, uint32_t rate);

/* Counts a segment that is not reported. */
void endpoint_meter_skip(struct endpoint_meter *m, unsigned of, enum endpoint_skip why);

/* Is a second with skipped segments over at @now_ns? */
static inline bool endpoint_meter_due(const struct endpoint_meter *m, uint64_t now_ns)
{
	return m->skips && now_ns / 1000000000 != m->second;
}

/* Forgets the counts of the places that have another endpoint in @now than in @was. */
void endpoint_meter_change(struct endpoint_meter *m, const struct endpoints *was,
			   const struct endpoints *now);
