#include "flow/encap_id.h"
#include <errno.h>
#include <stdatomic.h>
#include "base/cc.h"

enum { NUMBERS = ENCAP_ID_LAST + 1 - ENCAP_ID_FIRST, SLOTS = 1 << 17 }; /* at most half full */

struct entry { /* never changes once it is counted */
	struct tunnel tunnel;
	uint16_t iface;
};

struct encap_ids {
	struct hash_key secret;
	_Atomic uint32_t count; /* of entries that readers may see */
	struct entry entry[NUMBERS];
	uint16_t slot[SLOTS]; /* number; 0: free.  Only the thread that gives numbers looks here */
};

size_t encap_id_memory(void)
{
	return sizeof(struct encap_ids);
}

struct encap_ids *encap_id_init(void *memory, const struct hash_key *secret)
{
	struct encap_ids *t = memory;

	t->secret = *secret;
	return t;
}

struct encap_ids *encap_id_adopt(void *memory)
{
	struct encap_ids *t = memory;

	return t->count <= NUMBERS ? t : NULL;
}

int encap_id_of(struct encap_ids *t, uint16_t iface, const struct tunnel *tunnel)
{
	if (tunnel->type == TUNNEL_NONE)
		return iface;
	uint64_t word = (uint64_t)tunnel->id << 32 | (uint64_t)iface << 16 |
			(uint64_t)tunnel->type << 8 | tunnel->has_id;
	uint32_t at = hash_words(&t->secret, &word, 1) % SLOTS;
	uint32_t count = atomic_load_explicit(&t->count, memory_order_relaxed);

	for (; t->slot[at]; at = (at + 1) % SLOTS) {
		const struct entry *e = &t->entry[t->slot[at] - ENCAP_ID_FIRST];

		if (e->iface == iface && e->tunnel.type == tunnel->type &&
		    e->tunnel.has_id == tunnel->has_id && e->tunnel.id == tunnel->id)
			return t->slot[at];
	}
	if (count == NUMBERS)
		return -ENOSPC;
	t->entry[count] = (struct entry){ *tunnel, iface };
	/* Release: who sees the count sees the entry. */
	atomic_store_explicit(&t->count, count + 1, memory_order_release);
	/* Last, because another process may continue with this memory.  If this one ends here, a
	 * number stays unused. */
	atomic_signal_fence(memory_order_seq_cst);
	t->slot[at] = (uint16_t)(ENCAP_ID_FIRST + count);
	return t->slot[at];
}

uint16_t encap_id_look_up(const struct encap_ids *t, uint16_t number, struct tunnel *ret_tunnel)
{
	uint32_t n = (uint32_t)number - ENCAP_ID_FIRST; /* huge for interfaces */

	if (n >= atomic_load_explicit(&t->count, memory_order_acquire)) {
		*ret_tunnel = (struct tunnel){ .type = TUNNEL_NONE };
		return number;
	}
	*ret_tunnel = t->entry[n].tunnel;
	return t->entry[n].iface;
}
