#include "format/where.h"
#include <string.h>
#include "base/cc.h"
#include "format/line.h"
#include "format/member.h"
#include "format/where_form.h"

/* What is evaluated: a record, or, if .event is NULL, members found in a line. */
struct subject {
	const struct event *event;
	uint64_t seq;
	const struct json_context *context;
	const struct line_member *line;
	/* Texts that were formatted for an earlier term: whoever writes the expression must not
	 * decide how often an event is hashed. */
	unsigned known, present; /* bits */
	struct formatted {
		uint8_t n;
		char text[MEMBER_FORMATTED_MAX];
	} text[WHERE_TEXTS];
};

static bool formatted_text(const struct where *w, unsigned member, const struct member *m,
			   struct subject *s, struct member_value *ret)
{
	unsigned i = w->member[member].text;
	struct formatted *t = &s->text[i];

	if (!(s->known >> i & 1)) {
		s->known |= 1u << i;
		if (member_of_event(m, s->event, s->seq, s->context, ret)) {
			s->present |= 1u << i;
			t->n = (uint8_t)ret->n;
			memcpy(t->text, ret->text, ret->n);
		}
	}
	ret->text = t->text;
	ret->n = t->n;
	return s->present >> i & 1;
}

static bool value_of(const struct where *w, unsigned member, struct subject *s,
		     struct member_value *ret)
{
	if (!s->event) {
		const struct line_member *m = &s->line[member];

		return m->n &&
		       member_of_text(&member_table[w->member[member].first], m->text, m->n, ret);
	}

	unsigned row = w->member[member].row[s->event->kind];
	const struct member *m = &member_table[row];

	if (row == ROW_NONE)
		return false;
	if (w->member[member].text < WHERE_TEXTS)
		return formatted_text(w, member, m, s, ret);
	return member_of_event(m, s->event, s->seq, s->context, ret);
}

unsigned where_type(const struct where *w, unsigned member)
{
	return member_table[w->member[member].first].type;
}

static enum outcome outcome_of(int difference)
{
	return difference < 0 ? LESS : difference ? GREATER : EQUAL;
}

static enum outcome compare_texts(const char *a, size_t na, const char *b, size_t nb)
{
	int d = memcmp(a, b, na < nb ? na : nb);

	return outcome_of(d ? d : (na > nb) - (na < nb));
}

static enum outcome compare_addresses(unsigned va, const uint8_t *a, unsigned vb, const uint8_t *b)
{
	return va == vb && !memcmp(a, b, va == 4 ? 4 : 16) ? EQUAL : LESS;
}

static enum outcome compare_literal(const struct where *w, unsigned type,
				    const struct member_value *v, const struct literal *l)
{
	switch (type) {
	case MEMBER_INTEGER:
		return outcome_of((v->integer > l->integer) - (v->integer < l->integer));
	case MEMBER_BOOL:
		return outcome_of(v->truth - (int)l->integer);
	case MEMBER_ADDRESS:
		return compare_addresses(v->ip_v, v->addr, l->ip_v, l->addr);
	default:
		return compare_texts(v->text, v->n, w->text + l->at, l->n);
	}
}

static enum outcome compare_values(unsigned type, const struct member_value *a,
				   const struct member_value *b)
{
	switch (type) {
	case MEMBER_INTEGER:
		return outcome_of((a->integer > b->integer) - (a->integer < b->integer));
	case MEMBER_BOOL:
		return outcome_of(a->truth - b->truth);
	case MEMBER_ADDRESS:
		return compare_addresses(a->ip_v, a->addr, b->ip_v, b->addr);
	default:
		return compare_texts(a->text, a->n, b->text, b->n);
	}
}

static bool compare_members(const struct where *w, const struct term *t, struct subject *s,
			    const struct member_value *a)
{
	struct member_value b;

	return value_of(w, t->arg, s, &b) &&
	       t->outcomes & compare_values(where_type(w, t->member), a, &b);
}

static bool has_item(const struct member_value *list, int64_t n)
{
	for (unsigned i = 0; i < list->items; i++)
		if (list->item[i] == n)
			return true;
	return false;
}

static bool in_member(const struct where *w, const struct term *t, struct subject *s,
		      const struct member_value *v)
{
	struct member_value list;

	return value_of(w, t->arg, s, &list) && has_item(&list, v->integer);
}

static bool in_literals(const struct where *w, const struct term *t, const struct member_value *v)
{
	unsigned type = where_type(w, t->member);

	for (unsigned i = 0; i < t->n; i++)
		if (compare_literal(w, type, v, &w->literal[t->arg + i]) == EQUAL)
			return true;
	return false;
}

static bool holds_text(const struct where *w, const struct term *t, struct member_value *v)
{
	const struct literal *l = &w->literal[t->arg];
	const char *want = w->text + l->at;

	if (where_type(w, t->member) == MEMBER_ADDRESS)
		member_address_text(v);
	if (t->op == OP_CONTAINS)
		return memmem(v->text, v->n, want, l->n);
	return v->n >= l->n &&
	       !memcmp(t->op == OP_STARTS ? v->text : v->text + v->n - l->n, want, l->n);
}

static bool in_network(const struct literal *net, const struct member_value *v)
{
	unsigned octets = net->bits / 8, rest = net->bits % 8;

	return net->ip_v == v->ip_v && !memcmp(net->addr, v->addr, octets) &&
	       (!rest || !((net->addr[octets] ^ v->addr[octets]) >> (8 - rest)));
}

/* @v: the value of the term's member. */
static bool value_holds(const struct where *w, const struct term *t, struct subject *s,
			struct member_value *v)
{
	switch ((enum op)t->op) {
	case OP_CONSTANT:
	case OP_HAS:
		return true;
	case OP_TRUTH:
		return v->truth;
	case OP_COMPARE:
		return t->outcomes &
		       compare_literal(w, where_type(w, t->member), v, &w->literal[t->arg]);
	case OP_COMPARE_MEMBER:
		return compare_members(w, t, s, v);
	case OP_IN:
		return in_literals(w, t, v);
	case OP_IN_MEMBER:
		return in_member(w, t, s, v);
	case OP_LITERAL_IN:
		return has_item(v, w->literal[t->arg].integer);
	case OP_STARTS:
	case OP_ENDS:
	case OP_CONTAINS:
		return holds_text(w, t, v);
	case OP_CIDR:
		return in_network(&w->literal[t->arg], v);
	}
	return false;
}

static bool number_holds(const struct where *w, const struct term *t, const struct event *e)
{
	unsigned row = w->member[t->member].row[e->kind];
	int64_t have, want = w->literal[t->arg].integer;

	if (row == ROW_NONE)
		return false;
	have = member_number_of_event(&member_table[row], e);
	return t->outcomes & outcome_of((have > want) - (have < want));
}

static bool term_holds(const struct where *w, const struct term *t, struct subject *s)
{
	struct member_value v;

	if (t->by_number && s->event)
		return number_holds(w, t, s->event);
	if (t->op == OP_CONSTANT)
		return t->arg;
	if (t->by_words && s->event) {
		unsigned row = w->member[t->member].row[s->event->kind];
		int word = row == ROW_NONE
				   ? -1
				   : member_word_of_event(&member_table[row], s->event, s->context);

		return word >= 0 && t->words >> word & 1;
	}
	return value_of(w, t->member, s, &v) && value_holds(w, t, s, &v);
}

/* Each step goes to a later term. */
static bool evaluate(const struct where *w, struct subject *s)
{
	unsigned i = 0;

	while (i < w->terms)
		i = w->term[i].next[term_holds(w, &w->term[i], s)];
	return i == ACCEPT;
}

bool where_event(const struct where *w, const struct event *e, uint64_t seq,
		 const struct json_context *c)
{
	struct subject s; /* .text is not worth zeroing */

	s.event = e;
	s.seq = seq;
	s.context = c;
	s.known = s.present = 0;
	return w->kinds >> e->kind & 1 && evaluate(w, &s);
}

bool where_line(const struct where *w, const char *line, size_t n)
{
	struct line_member found[ARRAY_SIZE(w->member)];
	struct subject s;

	for (unsigned i = 0; i < w->members; i++) {
		found[i].path = member_table[w->member[i].first].path;
		found[i].path_len = (unsigned)strlen(found[i].path);
	}
	s.event = NULL;
	s.line = found;
	return line_find(line, n, found, w->members) && evaluate(w, &s);
}

uint32_t where_kinds(const struct where *w)
{
	return w->kinds;
}

/* ---- what is known before there is a record -------------------------------------------------- */

static bool is_by_number(const struct where *w, const struct term *t)
{
	if (t->op != OP_COMPARE || where_type(w, t->member) != MEMBER_INTEGER)
		return false;
	for (unsigned kind = 0; kind < EVENT_KINDS; kind++) {
		unsigned row = w->member[t->member].row[kind];

		if (row != ROW_NONE && !member_is_number(&member_table[row]))
			return false;
	}
	return true;
}

/* Which words make @t true?  All records that have the member have the same words. */
static void prepare_term(const struct where *w, struct term *t)
{
	const struct member *m = NULL;

	if (t->op == OP_CONSTANT || t->op == OP_COMPARE_MEMBER)
		return;
	for (unsigned kind = 0; kind < EVENT_KINDS && !m; kind++)
		if (w->member[t->member].row[kind] != ROW_NONE)
			m = &member_table[w->member[t->member].row[kind]];
	if (!m || !member_is_word(m))
		return;
	t->by_words = true;
	for (unsigned i = 0; i < m->nwords; i++) {
		struct member_value v;

		v.text = m->words[i].s;
		v.n = m->words[i].n;
		t->words |= (uint32_t)value_holds(w, t, NULL, &v) << i;
	}
}

/* Can the term come out as @truth in an event of @kind? */
static bool possible(const struct where *w, const struct term *t, unsigned kind, bool truth)
{
	if (t->op == OP_CONSTANT)
		return truth == t->arg;

	unsigned row = w->member[t->member].row[kind];

	if (row == ROW_NONE)
		return !truth;
	if (member_is_kind(&member_table[row]) && t->by_words)
		return truth == (t->words >> kind & 1);
	return true;
}

/* Can the expression hold for an event of @kind?  Follows each way through the terms. */
static bool possible_for(const struct where *w, unsigned kind)
{
	bool reached[REJECT + 1] = { true };

	for (unsigned i = 0; i < w->terms; i++)
		for (unsigned truth = 0; truth < 2; truth++)
			if (reached[i] && possible(w, &w->term[i], kind, truth))
				reached[w->term[i].next[truth]] = true;
	return reached[ACCEPT];
}

void where_prepare(struct where *w)
{
	unsigned texts = 0;

	for (unsigned i = 0; i < w->members; i++)
		w->member[i].text = member_is_formatted(&member_table[w->member[i].first])
					    ? (uint8_t)texts++
					    : WHERE_TEXTS;
	for (unsigned i = 0; i < w->terms; i++)
		prepare_term(w, &w->term[i]);
	for (unsigned i = 0; i < w->terms; i++)
		w->term[i].by_number = is_by_number(w, &w->term[i]);
	for (unsigned kind = 0; kind < EVENT_KINDS; kind++)
		w->kinds |= (uint32_t)possible_for(w, kind) << kind;
}
