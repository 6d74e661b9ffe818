#include "synfind/filters.h"
#include <errno.h>
#include <string.h>
#include "base/undo.h"
#include "format/json.h"

const char *const filter_policy_name[POLICIES] = {
	[POLICY_DROP_OLDEST] = "drop_oldest",
	[POLICY_DROP_NEWEST] = "drop_newest",
	[POLICY_DISCONNECT] = "disconnect",
};

const struct subscription subscription_default = {
	.kinds = LINES_ALL,
	.filter = FILTER_NONE,
	.everything = true,
};

void filters_destroy(struct filters *f)
{
	for (unsigned i = 0; i < FILTER_SLOTS; i++)
		where_free(f->where[i]);
	*f = (struct filters){ 0 };
}

static bool slot_has(const struct filters *f, unsigned i, unsigned log, const char *text, size_t n)
{
	const struct filter_slot *slot = &f->slots[i];

	return f->where[i] && slot->log == log && slot->octets == n && !memcmp(slot->text, text, n);
}

static void slot_begin(struct filters *f, unsigned i, struct where *where)
{
	f->where[i] = where;
	f->users[i] = 1;
	f->active[f->slots[i].log] |= UINT64_C(1) << i;
}

int filters_use(struct filters *f, unsigned log, uid_t uid, const char *text, size_t n,
		uint64_t seq, struct where_error *ret_error)
{
	unsigned mine = 0, empty = FILTER_SLOTS;
	struct where *where;
	int r;

	for (unsigned i = 0; i < FILTER_SLOTS; i++) {
		if (slot_has(f, i, log, text, n)) {
			f->users[i]++;
			return (int)i;
		}
		if (!f->where[i] && empty == FILTER_SLOTS)
			empty = i;
		mine += f->where[i] && f->slots[i].uid == uid;
	}
	r = where_compile(&where, text, n, ret_error);
	if (r < 0)
		return r;
	if (empty == FILTER_SLOTS || mine >= FILTERS_PER_UID) {
		where_free(where);
		return empty == FILTER_SLOTS ? -ENOSPC : -EDQUOT;
	}
	f->slots[empty] = (struct filter_slot){
		.since_seq = seq, .log = log, .uid = uid, .octets = (uint32_t)n
	};
	memcpy(f->slots[empty].text, text, n);
	undo_order(); /* it is whole before a subscriber's record refers to it */
	slot_begin(f, empty, where);
	return (int)empty;
}

bool filters_resume(struct filters *f, unsigned i, unsigned log)
{
	const struct filter_slot *slot = &f->slots[i];
	struct where_error error;
	struct where *where;

	if (i >= FILTER_SLOTS || slot->log != log || slot->octets > WHERE_TEXT_MAX)
		return false;
	if (f->where[i])
		f->users[i]++;
	else if (where_compile(&where, slot->text, slot->octets, &error) < 0)
		return false;
	else
		slot_begin(f, i, where);
	return true;
}

void filters_release(struct filters *f, unsigned i)
{
	if (i >= FILTER_SLOTS || --f->users[i])
		return;
	f->active[f->slots[i].log] &= ~(UINT64_C(1) << i);
	where_free(f->where[i]);
	f->where[i] = NULL;
}

uint64_t filters_event(const struct filters *f, unsigned log, const struct event *e, uint64_t seq,
		       const struct json_context *c)
{
	uint64_t bits = 0;

	for (uint64_t left = f->active[log]; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);

		bits |= (uint64_t)where_event(f->where[i], e, seq, c) << i;
	}
	return bits;
}

uint64_t filters_line(const struct filters *f, unsigned log, const char *line, size_t n)
{
	uint64_t bits = 0;

	for (uint64_t left = f->active[log]; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);

		bits |= (uint64_t)where_line(f->where[i], line, n) << i;
	}
	return bits;
}
