#include "flow/dedupe.h"
#include "flow/conn.h"
#include "flow/origin.h"
#include "flow/timeout.h"
#include "flow/tracker_state.h"
#include "wire/segment.h"

/* Octets that a server can have sent or acknowledged before its SYN-ACK is seen. */
static const uint32_t answer_range = 1 << 20;

/* An entry as seen by one segment. */
struct candidate {
	table_ref ref;
	unsigned instance;
	enum fsm_side from;
	bool owned;   /* the segment's origin owns its direction */
	bool unowned; /* nothing of that direction was seen yet: another origin can own it */
	bool named;   /* it has the segment's ISN */
	bool over;
	uint32_t distance; /* from the number that comes next */
};

/* All entries of a 4-tuple. */
struct candidates {
	struct candidate at[2 * INSTANCES];
	unsigned n;
	struct placed place[INSTANCES];
	unsigned free; /* the first instance without a live entry; INSTANCES: none */
};

/* ---- what an entry says ---------------------------------------------------------------------- */

struct known {
	uint32_t isn, next[SIDES], acked[SIDES];
	bool sent[SIDES], heard[SIDES];
	unsigned client_end;
	enum fsm_state state;
};

static struct known known_of(const struct tracker *t, table_ref r)
{
	if (table_shape_of(r) == SHAPE_SYN) {
		const struct syn_entry *e = table_syn(&t->table, r);

		return (struct known){ .isn = e->isn[SIDE_A],
				       .next = { e->isn[SIDE_A] + 1, e->isn[SIDE_B] + 1 },
				       .sent = { true, e->syn_acks },
				       .client_end = e->client_end,
				       .state = e->syn_acks ? FSM_ANSWERED : FSM_SYN };
	}
	const struct conn_hot *h = table_hot(&t->table, r);
	const struct conn_cold *k = table_cold(&t->table, r);

	return (struct known){ .isn = k->isn,
			       .next = { h->next[SIDE_A], h->next[SIDE_B] },
			       .acked = { h->acked[SIDE_A], h->acked[SIDE_B] },
			       .heard = { k->heard & 1 << SIDE_A, k->heard & 1 << SIDE_B },
			       .sent = { tally_pkts(h->tally[SIDE_A]) || k->pkts_hi0,
					 tally_pkts(h->tally[SIDE_B]) || k->pkts_hi1 },
			       .client_end = h->client_end,
			       .state = h->state };
}

static uint32_t distance(uint32_t a, uint32_t b)
{
	return a - b < b - a ? a - b : b - a;
}

/* Does the origin of @s own this direction of the entry @r? */
static bool is_owner(const struct tracker *t, table_ref r, bool server, const struct segment *s)
{
	uint16_t number = tracker_origin(t, (uint16_t)table_iface(&t->table, r));

	return origin_owns(t->origins, number, server, s->iface);
}

/* Does @s have the client's ISN, or answer it? */
static bool has_isn(const struct known *k, enum fsm_side from, const struct segment *s)
{
	bool syn = s->flags & TCP_SYN, ack = s->flags & TCP_ACK;

	if (from == SIDE_A)
		return syn && !ack && s->seq == k->isn;
	if (!ack || s->ack != k->isn + 1)
		return false;
	return syn || (s->flags & TCP_RST && !k->sent[SIDE_B]);
}

static struct candidate candidate_of(const struct tracker *t, table_ref r, unsigned sender,
				     const struct segment *s, bool self)
{
	struct known k = known_of(t, r);
	enum fsm_side from = self ? SIDE_A : sender != k.client_end;
	struct candidate c = { .ref = r,
			       .from = from,
			       .owned = is_owner(t, r, from == SIDE_B, s),
			       .unowned = !k.sent[from],
			       .named = has_isn(&k, from, s),
			       .over = fsm_over(k.state) };

	c.distance =
		k.sent[from] ? distance(s->seq, k.next[from]) : distance(s->ack, k.next[!from]);
	/* A late segment of an earlier connection must not decide who owns the answers. */
	if (c.unowned && k.state == FSM_SYN && !(s->flags & TCP_SYN && !(s->flags & TCP_ACK)))
		c.unowned = s->flags & TCP_ACK && c.distance <= answer_range;
	return c;
}

/* ---- all entries of the 4-tuple ------------------------------------------------------------- */

static void candidates_add(const struct tracker *t, struct candidates *c, unsigned instance,
			   unsigned sender, const struct segment *s)
{
	struct placed *p = &c->place[instance];
	table_ref ref[2];
	bool used = false;

	ref[0] = table_find(&t->table, p->hash, &p->key, &ref[1]);
	p->ref = ref[0];
	p->instance = instance;
	for (unsigned i = 0; i < 2; i++) {
		if (ref[i] == TABLE_NONE || timeout_due(t, ref[i]))
			continue;
		c->at[c->n] = candidate_of(t, ref[i], sender, s, p->key.self);
		c->at[c->n++].instance = instance;
		used = true;
	}
	if (!used && instance < c->free)
		c->free = instance;
}

static void candidates_find(const struct tracker *t, struct candidates *c, const struct placed *p,
			    unsigned sender, const struct segment *s)
{
	unsigned highest = t->instances[p->hash % RECALL_RECORDS];

	c->n = 0;
	c->free = INSTANCES;
	c->place[0] = *p;
	candidates_add(t, c, 0, sender, s);
	for (unsigned i = 1; i <= highest; i++) {
		c->place[i].key = p->key;
		dedupe_key(&c->place[i].key, i);
		c->place[i].hash = flow_key_hash(&c->place[i].key, &t->cfg.secret);
		candidates_add(t, c, i, sender, s);
	}
	if (c->free == INSTANCES && highest + 1 < INSTANCES)
		c->free = highest + 1;
}

/* ---- rules ----------------------------------------------------------------------------------- */

/* The best of those that fit; NULL: none does.  One not over is better, then the nearest. */
static const struct candidate *best(const struct candidates *c,
				    bool (*fits)(const struct candidate *))
{
	const struct candidate *found = NULL;

	for (unsigned i = 0; i < c->n; i++) {
		const struct candidate *k = &c->at[i];

		if (!fits(k))
			continue;
		if (!found || found->over > k->over ||
		    (found->over == k->over && k->distance < found->distance))
			found = k;
	}
	return found;
}

static bool is_named_and_owned(const struct candidate *k)
{
	return k->named && (k->owned || k->unowned);
}

static bool is_named(const struct candidate *k)
{
	return k->named;
}

static bool is_client_of(const struct candidate *k)
{
	return k->owned && k->from == SIDE_A;
}

static bool is_server_of(const struct candidate *k)
{
	return k->from == SIDE_B && !k->over;
}

static bool is_over(const struct candidate *k)
{
	return k->over;
}

static bool is_owned(const struct candidate *k)
{
	return k->owned;
}

static bool is_unowned(const struct candidate *k)
{
	return k->unowned && !k->over;
}

static bool is_any(const struct candidate *k)
{
	(void)k;
	return true;
}

/* The entry that a SYN with an ISN of its own is for; NULL with *ret_new: it begins a connection
 * in the free instance. */
static const struct candidate *choose_syn(const struct candidates *c, bool *ret_new)
{
	/* The client's next one, to be judged as without dedupe. */
	const struct candidate *k = best(c, is_client_of);

	if (k)
		return k;
	/* A simultaneous open, or the roles changed: only its owner's counts. */
	k = best(c, is_server_of);
	if (k)
		return k;
	/* Beside one that is over, whose late segments may still come, while there is space. */
	k = c->free == INSTANCES ? best(c, is_over) : NULL;
	*ret_new = !k;
	return k;
}

/* The same for any other segment; an entry that is neither owned nor unowned: it is a copy. */
static const struct candidate *choose_other(const struct candidates *c, bool *ret_new)
{
	const struct candidate *k = best(c, is_owned);

	if (k && !k->over)
		return k;
	const struct candidate *first = best(c, is_unowned);

	if (first || k)
		return first ?: k;
	*ret_new = !c->n;
	return best(c, is_any);
}

/* ---- routes that change ---------------------------------------------------------------------- */

static bool is_later(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/* Does @s follow what is known of its direction without a gap, with something new?  An ACK of what
 * was not seen, or a window probe, is nothing new. */
static bool is_ahead(const struct known *k, enum fsm_side from, const struct segment *s)
{
	uint32_t end = segment_end(s), next = k->next[from];

	if (!k->sent[from] || !k->sent[!from] || s->flags & TCP_SYN || is_later(s->seq, next))
		return false;
	if (s->flags & TCP_RST)
		return s->seq == next;
	if (!(s->flags & TCP_ACK) || is_later(s->ack, k->next[!from]))
		return false;
	if (k->heard[!from] ? is_later(s->ack, k->acked[!from]) : s->ack == k->next[!from])
		return !is_later(next, end);
	return is_later(end, next) && (s->payload_len > 1 || s->flags & TCP_FIN);
}

/* Does the direction of @s have another owner now?  A copy is never ahead, since the owner shows
 * each segment first: so the route has changed, or the owner's frame was lost.  If the 4-tuple has
 * two live entries the segment may be a copy of the other one's. */
static bool is_moved(const struct tracker *t, const struct candidates *c, const struct candidate *k,
		     const struct segment *s)
{
	struct known known = known_of(t, k->ref);
	unsigned live = 0;

	for (unsigned i = 0; i < c->n; i++)
		live += !c->at[i].over;
	return live == 1 && !k->over && is_ahead(&known, k->from, s);
}

/* ---- owners ---------------------------------------------------------------------------------- */

static bool set_owner(struct tracker *t, const struct candidate *k, uint16_t origin)
{
	uint16_t was = (uint16_t)table_iface(&t->table, k->ref), number = tracker_origin(t, was);
	uint16_t client = origin_of_client(t->origins, number);
	uint16_t server = origin_of_server(t->origins, number);
	int pair = k->from == SIDE_A ? origin_of_pair(t->origins, origin, server)
				     : origin_of_pair(t->origins, client, origin);

	if (pair < 0)
		return false;
	uint16_t iface = (uint16_t)((was & ~((1u << INSTANCE_SHIFT) - 1)) | (unsigned)pair);

	if (table_shape_of(k->ref) == SHAPE_SYN)
		table_edit(&t->table, k->ref).syn->where.iface = iface;
	else
		table_hot_edit(&t->table, table_hot(&t->table, k->ref))->iface = iface;
	return true;
}

static bool count_copy(struct tracker *t, bool full)
{
	counter_add(&t->count->copies, 1);
	if (full)
		counter_add(&t->count->dedupe_full, 1);
	return false;
}

/* A connection in instance @i. */
static bool begin_instance(struct tracker *t, const struct candidates *c, struct placed *p)
{
	unsigned i = c->free;
	uint64_t hash = p->hash;

	if (i == INSTANCES)
		return count_copy(t, true);
	const uint8_t *highest = &t->instances[hash % RECALL_RECORDS];

	if (i > *highest)
		*(uint8_t *)undo_edit(t->undo, highest, sizeof *highest) = (uint8_t)i;
	else {
		*p = c->place[i];
		return true;
	}
	dedupe_key(&p->key, i);
	p->hash = flow_key_hash(&p->key, &t->cfg.secret);
	p->ref = TABLE_NONE;
	p->instance = i;
	return true;
}

bool dedupe_is_alone(const struct tracker *t, table_ref r, unsigned sender, const struct segment *s)
{
	unsigned client_end;

	if (table_shape_of(r) == SHAPE_SYN) {
		const struct syn_entry *e = table_syn(&t->table, r);

		if (e->incarnation || e->rivalled)
			return false;
		client_end = e->client_end;
	} else {
		if (table_hot(&t->table, r)->rivalled)
			return false;
		client_end = table_hot(&t->table, r)->client_end;
	}
	bool server = sender != client_end;

	return is_owner(t, r, server, s) && !(server && segment_flags(s) == TCP_SYN);
}

bool dedupe_place(struct tracker *t, struct placed *p, unsigned sender, const struct segment *s)
{
	bool first = segment_flags(s) == TCP_SYN, begins = false;
	const struct candidate *k;
	struct candidates c;

	candidates_find(t, &c, p, sender, s);
	k = best(&c, is_named_and_owned) ?: best(&c, is_named);
	if (!k)
		k = first ? choose_syn(&c, &begins) : choose_other(&c, &begins);
	if (begins)
		return begin_instance(t, &c, p);
	/* A new connection may begin anywhere where one is over. */
	bool again = first && k->over && !k->named;

	if (!again && !k->owned) {
		if (!k->unowned && !is_moved(t, &c, k, s))
			return count_copy(t, false);
		if (!set_owner(t, k, s->iface))
			return count_copy(t, true);
	}
	*p = c.place[k->instance];
	return true;
}

void dedupe_quoted(const struct tracker *t, struct flow_key *k, unsigned sender,
		   const struct segment *quoted)
{
	struct placed p = { .key = *k };
	struct candidates c;

	dedupe_key(&p.key, 0);
	p.hash = flow_key_hash(&p.key, &t->cfg.secret);
	*k = p.key;
	candidates_find(t, &c, &p, sender, quoted);
	for (unsigned i = 0; i < c.n; i++) {
		struct known known = known_of(t, c.at[i].ref);

		if (sender == known.client_end && known.isn == quoted->seq) {
			*k = c.place[c.at[i].instance].key;
			return;
		}
	}
}
