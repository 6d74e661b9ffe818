#include "synfinctl/fields.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

/* In the order of enum field. */
static const char *const paths[FIELDS] = {
	[F_TYPE] = "event_type",
	[F_TIMESTAMP] = "timestamp",
	[F_FLOW_ID] = "flow_id",
	[F_SRC_IP] = "src_ip",
	[F_SRC_PORT] = "src_port",
	[F_DEST_IP] = "dest_ip",
	[F_DEST_PORT] = "dest_port",
	[F_REASON] = "tcp.reason",
	[F_CLOSED_BY] = "tcp.closed_by",
	[F_OUTSTANDING] = "tcp.outstanding",
	[F_MIDSTREAM] = "tcp.midstream",
	[F_LOSSY] = "tcp.lossy",
	[F_SEGMENT] = "tcp.segment",
	[F_SILENT] = "tcp.silent_ns",
	[F_TOTAL] = "tcp.handshake.total_ns",
	[F_SERVER_RTT] = "tcp.handshake.server_rtt_ns",
	[F_CLIENT_RTT] = "tcp.handshake.client_rtt_ns",
	[F_SYN_RETRANS] = "tcp.handshake.syn_retrans",
	[F_SYNACK_RETRANS] = "tcp.handshake.synack_retrans",
	[F_START] = "flow.start",
	[F_END] = "flow.end",
	[F_AGE] = "flow.age_ns",
	[F_PKTS_TOSERVER] = "flow.pkts_toserver",
	[F_PKTS_TOCLIENT] = "flow.pkts_toclient",
	[F_BYTES_TOSERVER] = "flow.bytes_toserver",
	[F_BYTES_TOCLIENT] = "flow.bytes_toclient",
	[F_RETRANS_TOSERVER] = "flow.retrans_toserver",
	[F_RETRANS_TOCLIENT] = "flow.retrans_toclient",
	[F_GAP_BYTES] = "flow.gap_bytes",
	[F_FLOOD_ID] = "flood.id",
	[F_ATTEMPTS] = "flood.attempts",
	[F_COUNT] = "count",
};

void fields_init(struct fields *f)
{
	for (unsigned i = 0; i < FIELDS; i++)
		f->m[i] = (struct line_member){ .path = paths[i],
						.path_len = (unsigned)strlen(paths[i]) };
}

bool fields_read(struct fields *f, const char *line, size_t n)
{
	return line_find(line, n, f->m, FIELDS);
}

uint64_t fields_u64(const struct fields *f, enum field i)
{
	const struct line_member *m = &f->m[i];
	uint64_t v = 0;

	for (unsigned k = 0; k < m->n; k++) {
		unsigned digit = (unsigned char)m->text[k] - '0';

		if (digit > 9)
			return 0;
		if (v > ((uint64_t)INT64_MAX - digit) / 10)
			return INT64_MAX;
		v = v * 10 + digit;
	}
	return v;
}

static bool is_string(const struct line_member *m)
{
	return m->n >= 2 && m->text[0] == '"';
}

bool fields_is(const struct fields *f, enum field i, const char *value)
{
	const struct line_member *m = &f->m[i];
	size_t n = strlen(value);

	return is_string(m) && m->n - 2 == n && !memcmp(m->text + 1, value, n);
}

bool fields_true(const struct fields *f, enum field i)
{
	return f->m[i].n == 4 && !memcmp(f->m[i].text, "true", 4);
}

void fields_string(const struct fields *f, enum field i, char *ret, size_t size)
{
	const struct line_member *m = &f->m[i];
	size_t n = is_string(m) ? m->n - 2 : 0;

	if (n >= size)
		n = size - 1;
	if (n)
		memcpy(ret, m->text + 1, n);
	ret[n] = 0;
}

void fields_endpoint(const struct fields *f, enum field ip, bool port, char *ret, size_t size)
{
	char addr[46];
	unsigned number = (unsigned)(fields_u64(f, ip + 1) & 0xffff);

	static_assert(F_SRC_PORT == F_SRC_IP + 1 && F_DEST_PORT == F_DEST_IP + 1, "");
	fields_string(f, ip, addr, sizeof addr);
	if (!port)
		snprintf(ret, size, "%s", addr);
	else
		snprintf(ret, size, strchr(addr, ':') ? "[%s]:%u" : "%s:%u", addr, number);
}
