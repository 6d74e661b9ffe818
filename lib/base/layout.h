/* layout.h - the fingerprint of memory that outlives the process: of the sizes of its structs, and
 * of the offset and size of members that could move within an equal size.
 *
 * A process adopts kept memory only if it has the same fingerprint. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Two values of the list for layout_fingerprint(). */
#define LAYOUT_MEMBER(type, member) offsetof(type, member), sizeof(((type *)0)->member)

/* Adds @value to the fingerprint @v. */
static inline uint64_t layout_add(uint64_t v, uint64_t value)
{
	return (v ^ value) * 0x9e3779b97f4a7c15 ^ v >> 29;
}

/* Never 0.  @version: raised where the meaning changes, but no size or offset. */
static inline uint64_t layout_fingerprint(unsigned version, const uint64_t *values, unsigned n)
{
	uint64_t v = version;

	for (unsigned i = 0; i < n; i++)
		v = layout_add(v, values[i]);
	return v | 1;
}
