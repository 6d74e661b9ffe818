/* request.h - what a subscriber asks for: one line of JSON, docs/requests.md.  Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "flow/endpoints.h"
#include "format/where.h"

enum { REQUEST_MAX = 64 << 10, REQUEST_ID_MAX = 256, REQUEST_RUN_ID_MAX = 64 };

struct request {
	uint32_t kinds; /* 1 << enum line_kind */
	uint8_t policy; /* enum filter_policy */
	bool has_where, has_from, has_id, snapshot;
	unsigned nsegments;
	struct endpoint segments[ENDPOINTS_MAX];
	size_t where_octets;
	char where[WHERE_TEXT_MAX + 1];
	uint64_t from_seq; /* the last event that the subscriber has */
	char from_run_id[REQUEST_RUN_ID_MAX + 1];
	char id[REQUEST_ID_MAX + 1]; /* comes back in the answer */
};

struct request_error {
	unsigned at; /* character of the request, or of the expression, from 1; 0: unknown */
	char text[256];
};

/* Reads @n octets without the newline.  0, or -EINVAL and *ret_error. */
int request_parse(struct request *ret, const char *text, size_t n, struct request_error *ret_error);
