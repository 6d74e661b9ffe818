/* strbuf.h - bounded text builder.
 *
 * A piece that does not fit is dropped completely and sets `full`; all later pieces are dropped as
 * well.  Check `full` once, at the end.  No terminator. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct strbuf {
	char *p, *end; /* next octet, end of the space; borrowed */
	bool full;
};

static inline void strbuf_put(struct strbuf *t, const char *s, size_t n)
{
	if (t->full || (size_t)(t->end - t->p) < n) {
		t->full = true;
		return;
	}
	memcpy(t->p, s, n);
	t->p += n;
}

/* A string literal. */
#define strbuf_lit(t, s) strbuf_put((t), "" s, sizeof(s) - 1)

/* A terminated string. */
static inline void strbuf_str(struct strbuf *t, const char *s)
{
	strbuf_put(t, s, strlen(s));
}

/* Decimal. */
void strbuf_u64(struct strbuf *t, uint64_t v);

/* Octets of the UTF-8 sequence at @s (RFC 3629 section 4); 0: not UTF-8.  Never reaches beyond the
 * terminator of @s; the terminator itself is a sequence of 1. */
unsigned strbuf_utf8_length(const char *s);

/* Octets that need no escaping in a JSON string; false for the terminator. */
extern const bool strbuf_plain[256];

/* @s as a JSON string in quotes (RFC 8259 section 7).  Octets that are not UTF-8 become U+FFFD: a
 * line must be valid UTF-8 (section 8.1), but the name of an interface need not be. */
void strbuf_json_string(struct strbuf *t, const char *s);

/* RFC 3339, UTC, nine digits of fraction, in quotes.  @ns since 1970; years 1970 to 2554. */
void strbuf_timestamp(struct strbuf *t, uint64_t ns);
