/* strbuf.h - bounded text builder: a piece that does not fit is left out whole and sets `full`, and
 * everything after it is refused as well.  Check `full` once, at the end.  No terminator. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct strbuf {
	char *p, *end; /* next octet, end of the room; borrowed */
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

/* A string literal: its length is known to the compiler. */
#define strbuf_lit(t, s) strbuf_put((t), "" s, sizeof(s) - 1)

/* A terminated string. */
static inline void strbuf_str(struct strbuf *t, const char *s)
{
	strbuf_put(t, s, strlen(s));
}

/* Decimal. */
void strbuf_u64(struct strbuf *t, uint64_t v);

/* Octets of the UTF-8 sequence at @s (RFC 3629 section 4), at least 1 and, before the NUL that ends
 * @s, never more than are there; 0: not one. */
unsigned strbuf_utf8_length(const char *s);

/* Octets that stand for themselves in a JSON string; not the terminator. */
extern const bool strbuf_plain[256];

/* @s as a JSON string with its quotes; octets that are not UTF-8 come out as U+FFFD (RFC 8259
 * sections 7 and 8.1: a line must be valid UTF-8 whatever an interface is called). */
void strbuf_json_string(struct strbuf *t, const char *s);

/* RFC 3339, UTC, nine digits of fraction, in quotes.  @ns since 1970; years 1970 to 2554. */
void strbuf_timestamp(struct strbuf *t, uint64_t ns);
