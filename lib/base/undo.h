/* undo.h - transactions over shared memory that survive SIGKILL.
 *
 * Octets are copied to a log before they change.  The next process that finds records in the log
 * restores them.
 *
 * This protects against the end of the process at any instruction, not against a machine crash: the
 * stores that a thread executed are visible to the next process in program order.  So only the
 * compiler must keep their order, and the log needs no flush.  One store, `used` = 0, commits.
 *
 * The log is in shared memory, inside or outside the protected memory; it has offsets, no pointers.
 * struct undo is the view of one process, used by one thread at a time.  All functions but
 * undo_init() accept NULL and do nothing: memory that need not survive. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "base/cc.h"

struct undo_log {
	_Atomic uint64_t used; /* octets of records; 0: all is committed */
	unsigned char records[];
};

struct undo {
	unsigned char *base; /* protected memory; borrowed, like the log */
	size_t size;
	struct undo_log *log;
	size_t capacity; /* octets of records */
};

/* Follows the octets of a record, so that the last record can be found from the end of the log. */
struct undo_record {
	uint64_t offset : 44, n : 20;
};

enum { UNDO_SAVE_MAX = (1 << 20) - 1 };
#define UNDO_OVERFLOW UINT64_MAX

/* Octets of log for one undo_save() of @n octets. */
#define UNDO_COST(n) ((n) + sizeof(struct undo_record))

/* Makes @u the view of @size octets at @base, protected by the log of @octets at @log (8-aligned; a
 * new one is zeroed).  Does not write to either: call undo_rollback() next if a former process used
 * them. */
void undo_init(struct undo *u, void *base, size_t size, void *log, size_t octets);

/* The compiler moves no store across it; the processor may. */
static inline void undo_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

/* Call before changing the @n octets at @p (protected; at most UNDO_SAVE_MAX).  Octets may be saved
 * twice in a transaction.  If the log is full, the transaction cannot be rolled back any more, but
 * can still be committed. */
static inline void undo_save(struct undo *u, const void *p, size_t n)
{
	if (!u)
		return;

	struct undo_log *l = u->log;
	uint64_t used = atomic_load_explicit(&l->used, memory_order_relaxed);
	struct undo_record r = { .offset = (uint64_t)((const unsigned char *)p - u->base), .n = n };

	if (unlikely(used > u->capacity || u->capacity - used < UNDO_COST(n))) {
		used = UNDO_OVERFLOW;
	} else {
		memcpy(l->records + used, p, n);
		memcpy(l->records + used + n, &r, sizeof r);
		used += UNDO_COST(n);
	}
	undo_order(); /* the record is complete before it counts */
	atomic_store_explicit(&l->used, used, memory_order_relaxed);
	undo_order(); /* it counts before the caller changes anything */
}

/* Saves the @n octets at @p, then lends them to be changed.  For memory that is const otherwise. */
static inline void *undo_edit(struct undo *u, const void *p, size_t n)
{
	undo_save(u, p, n);
	return (void *)p;
}

/* Makes all changes since the last commit final. */
static inline void undo_commit(struct undo *u)
{
	if (!u)
		return;
	undo_order();
	atomic_store_explicit(&u->log->used, 0, memory_order_relaxed);
	undo_order();
}

/* Has anything been saved since the last commit? */
static inline bool undo_is_open(const struct undo *u)
{
	return u && atomic_load_explicit(&u->log->used, memory_order_relaxed);
}

/* Reverts all changes since the last commit, newest first.  May be interrupted by SIGKILL and
 * called again.  0; -ENOSPC: the log overflowed; -EBADMSG: the log is corrupt.  After an error the
 * protected memory is inconsistent: reinitialise it, then call undo_commit(). */
int undo_rollback(struct undo *u);
