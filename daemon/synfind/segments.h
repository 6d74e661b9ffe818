/* segments.h - whose segments subscribers want: up to ENDPOINTS_MAX endpoints in all, each in a
 * place of its own ("flow/endpoints.h").
 *
 * Subscribers with the same endpoint share a place.  Lines of segments have the set of their places
 * beside them (linelog.h), and a subscription has the set that it wants (filters.h).  The places
 * outlive the process (stream_state.h).  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "flow/endpoints.h"
#include "synfind/access.h"

struct undo;

enum { SEGMENTS_PER_UID = 4 };

/* Kept memory. */
struct segment_place {
	struct endpoint endpoint;
	uint32_t uid; /* who brought it */
};

struct segments {
	struct segment_place *places;		    /* borrowed, ENDPOINTS_MAX of them */
	unsigned users[ACCESS_LOGS][ENDPOINTS_MAX]; /* subscribers, by the log that they read */
};

/* A change that is possible. */
struct segments_change {
	struct segment_place places[ENDPOINTS_MAX];
	unsigned users[ACCESS_LOGS][ENDPOINTS_MAX];
	unsigned of; /* the new set of the subscriber */
};

/* A subscriber of @log, of user @uid, that had the set @before wants the @n endpoints @list.
 * -ENOSPC: no place is left; -EDQUOT: those of this user are in use. */
int segments_plan(const struct segments *s, unsigned log, uid_t uid, unsigned before,
		  const struct endpoint *list, unsigned n, struct segments_change *ret);

/* Does it.  Saves its changes to @u. */
void segments_apply(struct segments *s, const struct segments_change *change, struct undo *u);

/* A subscriber of an earlier process has the set @of again.  False: it is not sound. */
bool segments_resume(struct segments *s, unsigned log, unsigned of);

/* A subscriber with the set @of is gone. */
void segments_release(struct segments *s, unsigned log, unsigned of);

/* The places that subscribers of @log use. */
unsigned segments_used(const struct segments *s, unsigned log);

/* All endpoints that are wanted. */
void segments_list(const struct segments *s, struct endpoints *ret);
