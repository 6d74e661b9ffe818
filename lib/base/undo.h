/* undo.h - a transaction over shared memory that survives SIGKILL: what is about to change is
 * copied to a log first, and a process that finds the log in use puts it back.
 *
 * Against the end of a process at any instruction, not of the machine: every store that a thread
 * executed, in program order, is in memory that others map.  So the compiler alone has to keep the
 * order, and the log needs no flush.  One store, `used` = 0, is the commit.
 *
 * The log lies in shared memory, in or beside what it protects; it holds offsets, no pointers.
 * struct undo is the view of one process, and for one thread at a time.  A NULL one is fine
 * everywhere but in undo_init(), and does nothing: memory that need not survive. */
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
	unsigned char *base; /* of what is protected; borrowed, as is the log */
	size_t size;
	struct undo_log *log;
	size_t room; /* for records */
};

/* A record is the octets, then what they are: so the last one is found from the end of the log. */
struct undo_record {
	uint64_t offset : 44, n : 20;
};

enum { UNDO_SAVE_MAX = (1 << 20) - 1 };
#define UNDO_OVERFLOW UINT64_MAX

/* Octets of log that one undo_save() of @n octets takes, for planning. */
#define UNDO_COST(n) ((n) + sizeof(struct undo_record))

/* Views @size octets at @base, protected by the log of @octets at @log (8-aligned, of zeroes if it
 * is new).  Changes nothing: undo_rollback() next, if the memory was adopted. */
void undo_init(struct undo *u, void *base, size_t size, void *log, size_t octets);

/* The compiler moves no store across; the processor need not care. */
static inline void undo_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

/* Call it before the @n octets at @p, within what is protected, are changed; at most UNDO_SAVE_MAX.
 * Saving octets twice in a transaction is right, only not free.  Without room the transaction can
 * no longer be rolled back; it can be committed as ever. */
static inline void undo_save(struct undo *u, const void *p, size_t n)
{
	if (!u)
		return;

	struct undo_log *l = u->log;
	uint64_t used = atomic_load_explicit(&l->used, memory_order_relaxed);
	struct undo_record r = { .offset = (uint64_t)((const unsigned char *)p - u->base), .n = n };

	if (unlikely(used > u->room || u->room - used < UNDO_COST(n))) {
		used = UNDO_OVERFLOW;
	} else {
		memcpy(l->records + used, p, n);
		memcpy(l->records + used + n, &r, sizeof r);
		used += UNDO_COST(n);
	}
	undo_order(); /* the record is whole before it counts */
	atomic_store_explicit(&l->used, used, memory_order_relaxed);
	undo_order(); /* and counts before anything is changed */
}

/* Saves the @n octets at @p, then lends them to be changed.  Whoever keeps its memory const can change
 * it in no other way. */
static inline void *undo_edit(struct undo *u, const void *p, size_t n)
{
	undo_save(u, p, n);
	return (void *)p;
}

/* Everything since the last commit is final. */
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

/* Puts back what was changed since the last commit, newest first.  May itself be ended anywhere and
 * called again.  0; -ENOSPC: the log overflowed in this transaction, -EBADMSG: it is none: then
 * nothing may be believed of what it protects, and undo_commit() begins anew. */
int undo_rollback(struct undo *u);
