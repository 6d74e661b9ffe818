/* interface.h - one interface that is watched: its decoders, and their names in the store.
 *
 * What the parts of capture share, and nobody else includes:
 *
 *   capture.c   the opener's news: interfaces come, go, and get their rings
 *   restore.c  at the start: interfaces go on where an earlier process was
 *   ring_reload.c   after a reload: other rings in place of those that an interface has
 *
 * Main thread only. */
#pragma once
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include "opener/protocol.h"
#include "synfind/capture.h"
#include "synfind/decoder_state.h"

struct bypass_filter;
struct decoder;
struct source;

enum { INTERFACES_MAX = 255 };

struct interface {
	struct interface *next;
	struct decoder *decoder[OPENER_RINGS_MAX]; /* owned */
	unsigned decoders;			   /* 0: not yet, or not any more */
	char name[IF_NAMESIZE];			   /* remembered when it is gone */
	int ifindex;
	uint8_t id;
	bool asked; /* for its rings */
	bool gone;  /* and that was told */
	bool again; /* its name was watched before */
	bool up;
	bool listed;	 /* in the opener's present list */
	bool reloading;	 /* asked for other rings, in place of those that it has */
	bool switching;	 /* its decoders go over to them */
	uint64_t wanted; /* decoder_state_wants() when they were asked for */
	int stop_fd;
};

/* ---- names in the store --------------------------------------------------------------------- */

#define INTERFACE_TABLES "tables" /* decoder_state.h */
#define INTERFACE_RING	 "ring"	  /* the packet ring's socket */
#define INTERFACE_SPARE	 "twin"	  /* of the one that may take its place, or has */

/* Of decoder_state_head.ring[]. */
enum { INTERFACE_RINGS = 2 };
extern const char *const interface_ring_fdname[INTERFACE_RINGS];

struct interface_fdname {
	char s[32];
};

/* The name of decoder @decoder of tap @id. */
struct interface_fdname interface_fdname(const char *what, unsigned id, unsigned decoder);

/* The next process shall know nothing of decoder @i of tap @id. */
void interface_unstore(struct capture *c, unsigned id, unsigned i);

/* ---- which ones there are -------------------------------------------------------------------- */

/* The one that watches @ifindex, or NULL. */
struct interface *interface_find(const struct capture *c, int ifindex);

/* Is or was one of this name watched? */
bool interface_name_known(const struct capture *c, const char *name);

/* The lowest id that no tap has, or -1; ids keep the flows of interfaces apart. */
int interface_free_id(const struct capture *c);

/* Takes @t out of the list and frees it; nothing of it outlives this. */
void interface_forget(struct capture *c, struct interface *iface);

/* Frees one that is in no list any more; the next process can go on with it. */
void interface_free(struct interface *iface);

/* ---- its decoders ---------------------------------------------------------------------------- */

/* How many descriptors come with these rings. */
unsigned interface_fds(const struct opener_reply *m);

/* What is kept of ring @i of those that have come, @fd. */
struct decoder_ring interface_ring_of(const struct capture *c, const struct opener_reply *m,
				      unsigned i, int fd);

/* A new decoder over @source, the ring @ring; what it needs to be gone on with is in the store
 * then.
 * @source and @bulk are the decoder's, also on failure.  The filters of mode=auto count on, whoever
 * goes on: there nothing is kept.  0 or -errno. */
int interface_decoder_make(struct capture *c, struct interface *iface, struct decoder *d,
			   struct source *source, struct bypass_filter *bypass,
			   const struct decoder_ring *ring);

/* Makes decoders over the rings that have come, and runs them; takes the descriptors over, also on
 * failure.  0 or -errno. */
int interface_start(struct capture *c, struct interface *iface, const struct opener_reply *m,
		    const int *fds);

/* Its decoders, which are made, begin.  0 or -errno. */
int interface_run(struct capture *c, struct interface *iface);

/* Its decoders shall end. */
void interface_stop(struct interface *iface);

/* They shall read what is left, close all, and end: the interface is gone. */
void interface_close_all(struct interface *iface);

/* Their threads have ended, or are told to: publishes what they said last. */
void interface_join(struct capture *c, struct interface *iface);

/* Its decoders have ended: takes them out, keeps the name. */
void interface_end(struct capture *c, struct interface *iface);

/* Adds what they counted. */
void interface_add_totals(struct capture_totals *sum, const struct interface *iface);

/* ---- what is told of the interface ----------------------------------------------------------- */

/* Publishes it, once, wherever this process ends: the number of the line tells the next one whether
 * that was before or after. */
void interface_report_link(struct capture *c, struct interface *iface, enum reported_link link,
			   const char *state);

/* What the process before this one had told. */
enum reported_link interface_link_settle(const struct capture *c, struct decoder_state_head *h);
