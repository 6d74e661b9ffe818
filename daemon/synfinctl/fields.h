/* fields.h - the members of an event line that a report counts, found in its text (format/line.h).
 *
 * A JSON parser takes ten times as long, and a capture gives hundreds of thousands of lines.  Of a
 * line that is not synfind's, anything may be found, but nothing outside of it is read.  Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "format/line.h"

enum field {
	F_TYPE,
	F_TIMESTAMP,
	F_FLOW_ID,
	F_SRC_IP,
	F_SRC_PORT,
	F_DEST_IP,
	F_DEST_PORT,
	F_REASON,
	F_CLOSED_BY,
	F_OUTSTANDING,
	F_MIDSTREAM,
	F_LOSSY,
	F_SEGMENT,
	F_SILENT,
	F_TOTAL,
	F_SERVER_RTT,
	F_CLIENT_RTT,
	F_SYN_RETRANS,
	F_SYNACK_RETRANS,
	F_START,
	F_END,
	F_AGE,
	F_PKTS_TOSERVER,
	F_PKTS_TOCLIENT,
	F_BYTES_TOSERVER,
	F_BYTES_TOCLIENT,
	F_RETRANS_TOSERVER,
	F_RETRANS_TOCLIENT,
	F_GAP_BYTES,
	F_FLOOD_ID,
	F_ATTEMPTS,
	F_COUNT, /* of frames or events that were lost */
	FIELDS,
};

struct fields {
	struct line_member m[FIELDS];
};

/* Before the first fields_read(). */
void fields_init(struct fields *f);

/* Finds the members of @line; they are borrowed from it.  False: it is no JSON object. */
bool fields_read(struct fields *f, const char *line, size_t n);

/* Has the line this member? */
static inline bool fields_has(const struct fields *f, enum field i)
{
	return f->m[i].n != 0;
}

/* A number from 0 to INT64_MAX; 0 if it is none. */
uint64_t fields_u64(const struct fields *f, enum field i);

/* Is it that string? */
bool fields_is(const struct fields *f, enum field i, const char *value);

/* Is it true? */
bool fields_true(const struct fields *f, enum field i);

/* The string without quotes, as it is in the line; "" if it is none.  Cut to @size. */
void fields_string(const struct fields *f, enum field i, char *ret, size_t size);

/* An end of the connection: "10.9.0.2:443"; with @port false its address alone. */
void fields_endpoint(const struct fields *f, enum field ip, bool port, char *ret, size_t size);
