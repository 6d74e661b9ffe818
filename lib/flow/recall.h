/* recall.h - records of a few connections at a time, found by the hash of the 4-tuple.  Pure.
 *
 * An array of sets of RECALL_WAYS records.  The hash chooses the set; a full set forgets the record
 * that was written the longest ago.  So a connection loses its record only to RECALL_WAYS others of
 * the same set: with as many connections as sets, in one in 100,000.
 *
 * The array is kept memory: const for its owner, lent by recall_edit() after it was saved. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct undo;

enum { RECALL_WAYS = 8 };

/* Each record begins with it. */
struct recall_head {
	uint64_t flow;	  /* whose: the hash of its key; 0: nobody's */
	uint64_t written; /* the count of writes to this array when it was lent last */
};

struct recall {
	const void *records; /* borrowed, zeroed at first: @sets times RECALL_WAYS of @octets */
	uint32_t octets, sets;
};

/* The view of an array of structures that begin with a struct recall_head. */
#define RECALL(array)                                                                              \
	((struct recall){ (array), sizeof *(array), sizeof(array) / sizeof *(array) / RECALL_WAYS })

/* The record of @flow, or NULL. */
const void *recall_find(struct recall r, uint64_t flow);

/* Lends the record of @flow; if there is none, one that is zeroed behind its head.  *count counts
 * the writes, and orders the records by age; it belongs to the array. */
void *recall_edit(struct recall r, uint64_t flow, uint64_t *count, struct undo *undo);
