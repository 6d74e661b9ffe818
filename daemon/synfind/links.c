#include "synfind/links.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/undo.h"
#include "common/clock.h"
#include "common/log.h"
#include "flow/origin.h"
#include "synfind/decoder_view.h"
#include "synfind/ring_switch.h"

static const uint64_t reorder_ns = 1000000; /* between processors */

void links_begin(struct links *l, struct origins *origins, struct stored_link *kept,
		 struct undo *undo, uint64_t block_timeout_ns)
{
	l->origins = origins;
	l->kept = kept;
	l->undo = undo;
	l->latency_ns = ring_latency_ns(block_timeout_ns);
	l->closing = l->more = true; /* an earlier process may have ended in between */
}

static void news_free(struct link_news *news)
{
	while (news) {
		struct link_news *next = news->next;

		free(news);
		news = next;
	}
}

void links_free(struct links *l)
{
	news_free(atomic_exchange(&l->posted, NULL));
	news_free(l->leaving);
	l->leaving = NULL;
}

bool links_post(struct links *l, const struct link_news *news)
{
	struct link_news *copy = malloc(sizeof *copy);

	if (!copy)
		return false;
	*copy = *news;
	copy->at_ns = wall_clock_ns();
	copy->next = atomic_load_explicit(&l->posted, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&l->posted, &copy->next, copy))
		;
	return true;
}

/* ---- the decoder's thread ------------------------------------------------------------------- */

static struct link_news *take_posted(struct links *l)
{
	struct link_news *newest = atomic_exchange(&l->posted, NULL), *ordered = NULL;

	while (newest) {
		struct link_news *next = newest->next;

		newest->next = ordered;
		ordered = newest;
		newest = next;
	}
	return ordered;
}

static void forget_seen(struct links *l)
{
	links_count_frames(l);
	memset(l->seen, 0, sizeof l->seen);
}

static void remove_now(struct links *l, struct link_news **at)
{
	struct link_news *news = *at;

	if (news->kind == LINK_GONE)
		origin_remove_link(l->origins, news->ifindex);
	else
		origins_end_list(l->origins);
	forget_seen(l);
	l->closing = l->more = true;
	*at = news->next;
	free(news);
}

/* Removes at once what @news is about: the interface is back, or there is another list. */
static void remove_before(struct links *l, const struct link_news *news)
{
	struct link_news **at = &l->leaving;

	while (*at)
		if (news->kind == LINK_HERE
			    ? (*at)->kind == LINK_GONE && (*at)->ifindex == news->ifindex
			    : (*at)->kind == LINK_LIST_END)
			remove_now(l, at);
		else
			at = &(*at)->next;
}

static void add_leaving(struct links *l, struct link_news *news)
{
	struct link_news **at = &l->leaving;

	while (*at)
		at = &(*at)->next;
	news->next = NULL;
	*at = news;
}

/* False: no number is left. */
static bool add_link(struct links *l, const struct origin_link *link)
{
	if (origin_add_link(l->origins, link) >= 0)
		return true;
	log_limited(LOG_LEVEL_ERR, "%s is not watched: too many interfaces and tunnels are known",
		    link->name);
	return false;
}

void links_apply(struct links *l)
{
	struct link_news *news = take_posted(l), *next;

	for (; news; news = next) {
		struct origin_link link = { .ifindex = news->ifindex,
					    .slot = news->slot,
					    .watched = news->watched };

		next = news->next;
		if (news->kind == LINK_GONE || news->kind == LINK_LIST_END) {
			add_leaving(l, news);
			continue;
		}
		remove_before(l, news);
		memcpy(link.name, news->name, sizeof link.name);
		if (news->kind == LINK_LIST) {
			origins_begin_list(l->origins);
			l->any = news->watched;
		} else {
			add_link(l, &link);
		}
		free(news);
	}
	forget_seen(l);
}

bool links_may_remove(const struct links *l, uint64_t now_ns, uint64_t newest_ns, bool idle)
{
	const struct link_news *first = l->leaving;

	if (likely(!first))
		return false;
	return idle ? now_ns > first->at_ns + l->latency_ns : newest_ns > first->at_ns + reorder_ns;
}

void links_remove(struct links *l)
{
	remove_now(l, &l->leaving);
}

void links_presume(struct links *l, uint32_t ifindex)
{
	struct origin_link link = { .ifindex = ifindex, .watched = l->any };

	snprintf(link.name, sizeof link.name, "if%u", ifindex);
	forget_seen(l);
	if (!add_link(l, &link)) /* or each of its frames would wait for a name */
		l->seen[ifindex % LINKS_CACHE].other = ifindex;
}

static void count(struct links *l, struct counter *c, uint64_t n)
{
	counter_add(undo_edit(l->undo, c, sizeof *c), n);
}

static void count_seen(struct links *l, struct link_seen *s)
{
	if (s->slot && s->frames)
		count(l, &l->kept[s->slot].frames, s->frames);
	s->frames = 0;
}

void links_count_frames(struct links *l)
{
	for (unsigned i = 0; i < LINKS_CACHE; i++)
		count_seen(l, &l->seen[i]);
}

bool links_find(struct links *l, uint32_t ifindex, struct link_seen **ret)
{
	struct link_seen *s = &l->seen[ifindex % LINKS_CACHE];
	uint16_t number = origin_of_link(l->origins, ifindex);
	const struct origin_link *link = origin_link_of(l->origins, number);

	*ret = NULL;
	if (!link)
		return false;
	if (!link->watched) {
		s->other = ifindex;
		return true;
	}
	count_seen(l, s); /* of another interface */
	s->ifindex = ifindex;
	s->number = number;
	s->slot = (uint16_t)link->slot;
	*ret = s;
	return true;
}

void links_count_event(struct links *l, uint16_t number)
{
	const struct origin_link *link = origin_link_of(l->origins, number);

	if (link && link->slot)
		count(l, &l->kept[link->slot].events, 1);
}
