#include "synfind/segments.h"
#include <errno.h>
#include <string.h>
#include "base/undo.h"

enum { PLACES_ALL = (1 << ENDPOINTS_MAX) - 1 };

static bool place_used(const unsigned users[ACCESS_LOGS][ENDPOINTS_MAX], unsigned i)
{
	unsigned n = 0;

	for (unsigned log = 0; log < ACCESS_LOGS; log++)
		n += users[log][i];
	return n;
}

static void users_add(unsigned users[static ENDPOINTS_MAX], unsigned of, unsigned n)
{
	for (; of; of &= of - 1)
		users[__builtin_ctz(of)] += n;
}

/* The place of @e, which may be a new one; -ENOSPC, -EDQUOT. */
static int place_for(struct segments_change *c, const struct endpoint *e, uid_t uid)
{
	unsigned empty = ENDPOINTS_MAX, mine = 0;

	for (unsigned i = 0; i < ENDPOINTS_MAX; i++) {
		if (!place_used(c->users, i)) {
			empty = empty == ENDPOINTS_MAX ? i : empty;
			continue;
		}
		if (endpoint_equal(&c->places[i].endpoint, e))
			return (int)i;
		mine += c->places[i].uid == uid;
	}
	if (mine >= SEGMENTS_PER_UID)
		return -EDQUOT;
	if (empty == ENDPOINTS_MAX)
		return -ENOSPC;
	c->places[empty] = (struct segment_place){ .endpoint = *e, .uid = uid };
	return (int)empty;
}

int segments_plan(const struct segments *s, unsigned log, uid_t uid, unsigned before,
		  const struct endpoint *list, unsigned n, struct segments_change *ret)
{
	memcpy(ret->places, s->places, sizeof ret->places);
	memcpy(ret->users, s->users, sizeof ret->users);
	ret->of = 0;
	users_add(ret->users[log], before, -1u);
	for (unsigned i = 0; i < n; i++) {
		int place = place_for(ret, &list[i], uid);

		if (place < 0)
			return place;
		if (!(ret->of >> place & 1))
			ret->users[log][place]++;
		ret->of |= 1u << place;
	}
	return 0;
}

void segments_apply(struct segments *s, const struct segments_change *change, struct undo *u)
{
	memcpy(undo_edit(u, s->places, sizeof change->places), change->places,
	       sizeof change->places);
	memcpy(s->users, change->users, sizeof s->users);
}

/* Would one octet be wrong, the decoders would read behind an address. */
static bool endpoint_is_sound(const struct endpoint *e)
{
	if (e->ip_v == 0)
		return !e->prefix && e->has_port;
	return (e->ip_v == 4 && e->prefix <= 32) || (e->ip_v == 6 && e->prefix <= 128);
}

bool segments_resume(struct segments *s, unsigned log, unsigned of)
{
	if (of & ~(unsigned)PLACES_ALL)
		return false;
	for (unsigned left = of; left; left &= left - 1)
		if (!endpoint_is_sound(&s->places[__builtin_ctz(left)].endpoint))
			return false;
	users_add(s->users[log], of, 1);
	return true;
}

void segments_release(struct segments *s, unsigned log, unsigned of)
{
	users_add(s->users[log], of, -1u);
}

unsigned segments_used(const struct segments *s, unsigned log)
{
	unsigned of = 0;

	for (unsigned i = 0; i < ENDPOINTS_MAX; i++)
		of |= (unsigned)!!s->users[log][i] << i;
	return of;
}

void segments_list(const struct segments *s, struct endpoints *ret)
{
	*ret = (struct endpoints){ 0 };
	for (unsigned i = 0; i < ENDPOINTS_MAX; i++) {
		if (!place_used(s->users, i))
			continue;
		ret->used |= 1u << i;
		ret->at[i] = s->places[i].endpoint;
	}
}
