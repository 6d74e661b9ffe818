#include "synfind/control_list.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fmt.h"
#include "base/strbuf.h"
#include "format/json.h"
#include "format/where.h"
#include "synfind/decoder.h"
#include "synfind/publisher_state.h"

struct control_list *control_list_new(const struct publisher *p, enum list_order order,
				      unsigned limit)
{
	struct control_list *l = calloc(1, sizeof *l);
	unsigned n = 0;

	for (const struct input_ring *input = p->rings; input; input = input->next)
		n++;
	if (!l)
		return NULL;
	l->all = list_new(order, limit);
	l->generations = calloc(n + 1, sizeof *l->generations);
	if (!l->all || !l->generations) {
		control_list_free(l);
		return NULL;
	}
	for (const struct input_ring *input = p->rings; input; input = input->next)
		l->generations[l->n++] = input->decoder->generation;
	return l;
}

void control_list_free(struct control_list *l)
{
	if (!l)
		return;
	where_free(l->filter.where);
	list_free(l->all);
	list_free(l->part);
	free(l->generations);
	free(l);
}

void control_list_cancel(struct control_list *l)
{
	l->cancelled = true;
	if (l->part)
		list_cancel(l->part);
}

/* In the decoder's thread. */
static bool list_match(const void *filter, const struct event *row)
{
	const struct control_filter *f = filter;
	struct json_context c = { .community = f->community, .community_seed = f->community_seed };
	struct event masked;

	if (f->pseudonyms) {
		masked = *row;
		pseudonym_event(&f->key, &masked);
		row = &masked;
	}
	if (f->one)
		return row->flow_id == f->flow_id;
	if (!f->where)
		return true;
	pipeline_name_origin(f->pipeline, row->iface, f->iface, &c);
	return where_event(f->where, row, 0, &c);
}

static const struct input_ring *input_find(const struct control_list *l, const struct publisher *p)
{
	const struct input_ring *input = p->rings;

	while (input && input->decoder->generation != l->generations[l->next])
		input = input->next;
	return input;
}

/* What the decoder has found joins the rest, if it is complete. */
static void part_end(struct control_list *l, const struct publisher *p)
{
	const struct input_ring *input = input_find(l, p);
	bool done = input && atomic_load(&l->part->state) == LIST_DONE;

	for (uint32_t i = 0; done && i < l->part->n; i++) {
		struct list_row *row = &l->part->row[i];
		struct json_context c;

		pipeline_name_origin(&input->decoder->pipeline, row->e.iface, input->iface, &c);
		snprintf(row->iface, sizeof row->iface, "%s", c.iface);
		row->tunnel = c.tunnel;
	}
	if (done)
		list_merge(l->all, l->part);
	list_free(l->part);
	l->part = NULL;
}

/* False: it has ended, or cannot list. */
static bool part_begin(struct control_list *l, const struct input_ring *input)
{
	bool any = l->all->order == LIST_ANY;

	if (!input)
		return false;
	l->part = list_new(l->all->order, any ? l->all->limit - l->all->n : l->all->limit);
	if (!l->part)
		return false;
	l->filter.iface = input->iface;
	l->filter.pipeline = &input->decoder->pipeline;
	l->part->match = list_match;
	l->part->filter = &l->filter;
	if (decoder_list_all(input->decoder, l->part))
		return true;
	list_free(l->part);
	l->part = NULL;
	return false;
}

bool control_list_proceed(struct control_list *l, const struct publisher *p)
{
	bool enough = false;

	if (l->part && !list_is_over(l->part))
		return true;
	if (l->part) {
		part_end(l, p);
		l->next++;
	}
	enough = l->all->order == LIST_ANY && l->all->limit && l->all->n == l->all->limit;
	for (; l->next < l->n && !enough && !l->cancelled; l->next++)
		if (part_begin(l, input_find(l, p)))
			return true;
	l->next = l->n;
	if (!l->cancelled)
		list_sort(l->all);
	return false;
}

void control_list_row(const struct control_list *l, unsigned i, struct strbuf *t)
{
	static const char seq[] = ",\"seq\":0";
	const struct list_row *row = &l->all->row[i];
	struct event e = row->e;
	struct fmt_second second = { 0 };
	struct json_context c = { .iface = row->iface,
				  .tunnel = row->tunnel,
				  .community = l->filter.community,
				  .community_seed = l->filter.community_seed,
				  .second = &second };
	char *begin = t->p, *at;

	if (l->filter.pseudonyms)
		pseudonym_event(&l->filter.key, &e);
	json_event(t, &e, 0, &c);
	at = memmem(begin, (size_t)(t->p - begin), seq, sizeof seq - 1);
	if (t->full || !at)
		return;
	t->p -= sizeof seq; /* and the newline */
	memmove(at, at + sizeof seq - 1, (size_t)(t->p - at));
}
