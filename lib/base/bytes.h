/* bytes.h - borrowed octets, and a bounded cursor over them with a sticky error.
 *
 * Pure and total: a read past the end yields 0 and sets `bad`; the cursor then stops moving.  Check
 * `bad` once, at the end.  Cursors read big-endian integers (network order). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
	const uint8_t *p; /* borrowed */
	size_t n;
};

struct cursor {
	const uint8_t *p, *end;
	bool bad;
};

static inline uint16_t be16_at(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t be32_at(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t be64_at(const uint8_t *p)
{
	return (uint64_t)be32_at(p) << 32 | be32_at(p + 4);
}

static inline uint16_t le16_at(const uint8_t *p)
{
	return (uint16_t)(p[1] << 8 | p[0]);
}

static inline uint32_t le32_at(const uint8_t *p)
{
	return (uint32_t)le16_at(p + 2) << 16 | le16_at(p);
}

static inline struct cursor cursor_of(struct span s)
{
	return (struct cursor){ .p = s.p, .end = s.p + s.n };
}

/* Octets left. */
static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->p);
}

/* Returns the next @n octets and moves past them; NULL and `bad` if fewer are left. */
static inline const uint8_t *cursor_take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->bad || cursor_left(c) < n) {
		c->bad = true;
		return NULL;
	}
	c->p += n;
	return p;
}

static inline uint8_t cursor_u8(struct cursor *c)
{
	const uint8_t *p = cursor_take(c, 1);

	return p ? *p : 0;
}

static inline uint16_t cursor_be16(struct cursor *c)
{
	const uint8_t *p = cursor_take(c, 2);

	return p ? be16_at(p) : 0;
}

static inline uint32_t cursor_be32(struct cursor *c)
{
	const uint8_t *p = cursor_take(c, 4);

	return p ? be32_at(p) : 0;
}
