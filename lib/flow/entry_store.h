/* entry_store.h - connections in the table: load, save, promote, remove.  Never evicts.
 *
 * Private to lib/flow, in the tracker's thread. */
#pragma once
#include "flow/conn.h"
#include "flow/entry.h"
#include "flow/key.h"
#include "flow/table.h"

struct tracker;

/* One connection under work: what the table has of it is unpacked into `c`, and put back by
 * entry_save(). */
struct flow {
	struct flow_key key;
	uint64_t hash;
	table_ref ref; /* TABLE_NONE: not in the table */
	struct conn c[1];
};

static inline uint64_t flow_id(const struct flow *f)
{
	return flow_id_of(&f->key, f->c->start_ns, f->c->isn);
}

static inline struct flow_server flow_server(const struct flow *f)
{
	return flow_server_of(&f->key, f->c->client_end);
}

/* Is the entry @r an attempt that is not reported yet? */
bool entry_deferred(const struct tracker *t, table_ref r);

/* Unpacks the entry @ref into @f, whose key and hash are set. */
void entry_load(const struct tracker *t, struct flow *f, table_ref ref);

/* The same, and sets key and hash. */
void entry_load_at(const struct tracker *t, struct flow *f, table_ref ref);

/* Does a SYN entry hold @c?  Then *ret is that. */
bool entry_fits_syn(const struct tracker *t, const struct conn *c, struct syn_entry *ret);

/* Saves @f in the smallest shape that holds it; a full entry stays one.  If @f has no entry, it
 * gets a full one: see entry_add_syn() for the other shape. */
void entry_save(struct tracker *t, struct flow *f);

/* Adds the SYN entry @e for @f, whose server is @s.  The table has room: the tracker tops it up
 * after each segment. */
void entry_add_syn(struct tracker *t, struct flow *f, const struct flow_server *s,
		   const struct syn_entry *e);

/* Frees the entry of @f; nothing is reported, no state counted. */
void entry_remove(struct tracker *t, struct flow *f);

/* A SYN entry, the hash of its key, and its server. */
struct waiting {
	table_ref ref;
	const struct syn_entry *e;
	uint64_t hash;
	struct flow_server server;
};

/* What the SYN entry @ref is of. */
void waiting_of(const struct tracker *t, table_ref ref, struct waiting *ret);

/* Frees the SYN entry of @w, as entry_remove(). */
void waiting_remove(struct tracker *t, const struct waiting *w);

/* Asks for the index line of the slot @r, if it is in use: it will be removed soon. */
void entry_prefetch(const struct tracker *t, table_ref r);

/* With cfg.bypass: adds what the kernel counted to @f before it is judged without a segment;
 * @forget: the kernel stops counting. */
void entry_settle(struct tracker *t, struct flow *f, bool forget);
