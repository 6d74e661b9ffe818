/* interface.h - one captured interface: its decoders, and their names in the fd store.
 *
 * Interfaces may share packet rings, and so decoders: one struct interface then stands for those
 * rings, and each that shares them refers to it (.rings).
 *
 * Shared by the parts of capture, and read by control_methods.c; nothing else includes it:
 *
 *   capture.c      follows the opener: interfaces appear, disappear, and get their rings
 *   restore.c      at the start: resumes the interfaces of an earlier process
 *   ring_reload.c  after a reload: replaces the rings of an interface
 *
 * Main thread only. */
#pragma once
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include "opener/protocol.h"
#include "synfind/capture_state.h"
#include "synfind/decoder_view.h"
#include "synfind/links.h"
#include "synfind/stream_state.h"

struct bypass_filter;
struct source;

enum {
	INTERFACES_MAX = STREAM_IFACES, /* at a time */
	INTERFACES_GONE = 1024,		/* names that are remembered, to say that one is back */
};

struct interface {
	struct interface *next;
	struct interface *rings; /* whose decoders have its frames: itself, or what it shares */
	uint32_t slot;		 /* its stored_link there; 0 also: none */
	struct decoder *decoder[OPENER_RINGS_MAX]; /* owned */
	unsigned decoders;			   /* 0: none yet, or ended */
	char name[IF_NAMESIZE];			   /* kept after it is gone */
	int ifindex; /* opener_shared(): stands for rings that are shared */
	unsigned id; /* its number while it has decoders, or was asked for them */
	bool asked;  /* for its rings */
	bool gone;   /* and that was published */
	bool again;  /* an earlier interface had the same name */
	bool up;
	bool resumed;	 /* an earlier process watched it */
	bool listed;	 /* in the opener's current list */
	bool other;	 /* the same, as one that is not configured any more */
	bool held;	 /* no longer configured, and kept while a configured one is missing */
	bool reloading;	 /* asked for new rings to replace the current ones */
	bool switching;	 /* its decoders are switching rings */
	uint64_t wanted; /* decoder_state_wants() at that request */
	int stop_fd;
};

/* ---- names in the store: fdstore_name(INTERFACE_..., id, index of the decoder) --------------- */

#define INTERFACE_TABLES "tables" /* decoder_state.h */
#define INTERFACE_RING	 "ring"	  /* the packet ring's socket */
#define INTERFACE_SPARE	 "twin"	  /* the same of ring[1]; the name stays, for upgrades */

enum { INTERFACE_RINGS = 2 }; /* decoder_state_head.ring[] */
extern const char *const interface_ring_fdname[INTERFACE_RINGS];

/* Removes decoder @i of interface @id from the store. */
void interface_unstore(struct capture *c, unsigned id, unsigned i);

/* The name of the ring that decoder @i does not use. */
struct fdstore_name interface_spare_fdname(const struct interface *iface, unsigned i);

/* Logs what has become of the interface. */
#define interface_log(iface, state, ...)                                                           \
	log_event(LOG_LEVEL_INFO, LOG_ID_INTERFACE,                                                \
		  LOG_FIELDS({ "SYNFIND_INTERFACE", (iface)->name }, { "SYNFIND_STATE", state }),  \
		  __VA_ARGS__)

/* ---- the list ------------------------------------------------------------------------------- */

/* The interface with @ifindex that is not gone, or NULL. */
struct interface *interface_find(const struct capture *c, int ifindex);

/* Is, or was, an interface of this name captured? */
bool interface_name_known(const struct capture *c, const char *name);

/* Does it stand for rings that interfaces share? */
static inline bool interface_is_rings(const struct interface *iface)
{
	return iface->ifindex < 0;
}

/* Has it decoders, of its own or shared, and is not gone? */
static inline bool interface_runs(const struct interface *iface)
{
	return iface->rings->decoders && !iface->gone;
}

/* Adds a copy of @iface to the list, and forgets the name that has been gone for longest if there
 * are too many.  NULL: no memory. */
struct interface *interface_add(struct capture *c, const struct interface *iface);

/* Removes it from the list and the store, with those that share its rings, and frees it. */
void interface_forget(struct capture *c, struct interface *iface);

/* Frees it, but leaves it in the store for the next process. */
void interface_free(struct interface *iface);

/* ---- its decoders ---------------------------------------------------------------------------- */

/* The number of descriptors that belong to these rings. */
unsigned interface_fds(const struct opener_reply *m);

/* The filter of ring @i of the reply, whose descriptors are @fds, if it is one of mode=auto and
 * this daemon uses it; else *ret is NULL.  Owns its maps, also on failure.  0 or -errno. */
int interface_take_filter(struct capture *c, const struct opener_reply *m, unsigned i,
			  const int *fds, struct bypass_filter **ret);

/* Describes ring @i of the reply, socket @fd, for decoder_state.h. */
struct decoder_ring interface_ring_of(const struct capture *c, const struct opener_reply *m,
				      unsigned i, int fd);

/* Appends a zeroed decoder; NULL: no memory. */
struct decoder *interface_add_decoder(struct interface *iface);

/* Makes a new decoder over @source, which is ring @ring, and stores it.  It owns @source and
 * @bypass, also on failure.  With a bypass filter nothing is stored, because its counts would
 * continue without us.  0 or -errno. */
int interface_decoder_make(struct capture *c, struct interface *iface, struct decoder *d,
			   struct source *source, struct bypass_filter *bypass,
			   const struct decoder_ring *ring);

/* Makes and starts decoders for the rings of the reply.  Owns the descriptors, also on failure.
 * 0 or -errno. */
int interface_start(struct capture *c, struct interface *iface, const struct opener_reply *m,
		    const int *fds);

/* Adds its decoders to the publisher and starts them; at the start of the daemon capture_run()
 * starts them, after `restart` is published.  0 or -errno. */
int interface_attach(struct capture *c, struct interface *iface);

/* Starts its decoders, if any.  0 or -errno. */
int interface_run(struct capture *c, struct interface *iface);

/* Tells its decoders, if any, to end. */
void interface_stop(struct interface *iface);

/* The interface is gone: its decoders read the rest and close all its connections.  Those that it
 * has alone then end. */
void interface_close_all(struct interface *iface);

/* Has the decoders of @rings, which interfaces share, follow the opener's list: LINK_LIST,
 * LINK_LIST_END, or an interface that is not watched (LINK_HERE, LINK_GONE). */
void interface_follow(struct interface *rings, enum link_news_kind kind, int ifindex, bool watched);

/* Has its decoders watch an interface that shares them; again in each list. */
void interface_watch(struct interface *iface);

/* Waits for its decoders to end, after interface_stop(), and publishes their last events. */
void interface_join(struct capture *c, struct interface *iface);

/* Frees its decoders, which have ended, but keeps the name. */
void interface_end(struct capture *c, struct interface *iface);

/* Adds the counters of its decoders. */
void interface_add_totals(struct capture_totals *sum, const struct interface *iface);

/* ---- link state ----------------------------------------------------------------------------- */

/* What is kept of it for the next process; NULL: nothing. */
struct stored_link *interface_stored(const struct interface *iface);

/* Do subscribers know of it?  Not of one that was never up since it appeared. */
bool interface_is_reported(const struct interface *iface);

/* Publishes the link state exactly once, even if the process is killed in between: from the number
 * of the line the next process knows whether it was published. */
void interface_report_link(struct capture *c, struct interface *iface, enum reported_link link,
			   const char *state);
