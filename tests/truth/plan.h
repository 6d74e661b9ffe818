/* plan.h - what connection number i of a run does, drawn from the run's seed.  The driver acts by
 * it, the relay treats its segments by it, and neither needs to talk to the other. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum {
	PLAN_MAX = 20000,	  /* connections of a run: each has ports of its own */
	PLAN_SERVER_PORT = 1024,  /* + i */
	PLAN_CLIENT_PORT = 22000, /* + i, and + i + PLAN_MAX for a second one */
	PLAN_KINDS = 20
};

enum plan_kind {
	ORDERLY,	 /* data both ways, then one closes after the other */
	HALF_CLOSE,	 /* data against a FIN */
	CROSSED_CLOSE,	 /* both close at once */
	LINGER_RST,	 /* SO_LINGER 0, in every state */
	DATA_INTO_CLOSE, /* data for one who has closed fully */
	UNREAD,		 /* data unread at close */
	REFUSED,
	UNANSWERED, /* one kind of the handshake's segments never arrives */
	SIMULTANEOUS_OPEN,
	SELF_CONNECT,
	FAST_OPEN, /* with cookies */
	PORT_REUSE,
	KEEP_ALIVE,
	ZERO_WINDOW,
	SEQUENCE_WRAP,
	BACKLOG,
	BLACK_HOLE, /* after some segments the path goes silent */
	FORGED,	    /* somebody injects segments that the ends must ignore */
	SYN_COOKIES,
	FAST_OPEN_BARE, /* without cookies */
};

static const char *const plan_name[PLAN_KINDS] = {
	[ORDERLY] = "orderly",
	[HALF_CLOSE] = "half-close",
	[CROSSED_CLOSE] = "crossed-close",
	[LINGER_RST] = "linger-rst",
	[DATA_INTO_CLOSE] = "data-into-close",
	[UNREAD] = "unread-data",
	[REFUSED] = "refused",
	[UNANSWERED] = "unanswered",
	[SIMULTANEOUS_OPEN] = "simultaneous-open",
	[SELF_CONNECT] = "self-connect",
	[FAST_OPEN] = "fast-open",
	[PORT_REUSE] = "port-reuse",
	[KEEP_ALIVE] = "keep-alive",
	[ZERO_WINDOW] = "zero-window",
	[SEQUENCE_WRAP] = "sequence-wrap",
	[BACKLOG] = "backlog",
	[BLACK_HOLE] = "black-hole",
	[FORGED] = "forged",
	[SYN_COOKIES] = "syn-cookies",
	[FAST_OPEN_BARE] = "fast-open-bare",
};

/* How the path treats a connection's segments. */
enum plan_path { PATH_CLEAN, PATH_JITTER, PATH_LOSSY, PATH_BAD, PLAN_PATHS };

static const char *const path_name[PLAN_PATHS] = { "clean", "jitter", "lossy", "bad" };

/* In parts of 1000, at each of the two stages of the path; delays in us. */
static const struct {
	uint16_t drop, dup;
	uint32_t delay_min, delay_max;
} path_of[PLAN_PATHS] = {
	[PATH_CLEAN] = { 0, 0, 500, 500 },
	[PATH_JITTER] = { 0, 10, 100, 3000 },
	[PATH_LOSSY] = { 30, 10, 100, 2000 },
	[PATH_BAD] = { 100, 30, 100, 4000 },
};

/* What of an UNANSWERED handshake never arrives. */
enum plan_block { BLOCK_SYN, BLOCK_SYN_ACK, BLOCK_ACK, PLAN_BLOCKS };

struct plan {
	enum plan_kind kind;
	enum plan_path path;
	bool v6;
	unsigned opener; /* 0: A, 1: B */
	unsigned first;	 /* who closes first: 0 the opener, 1 the other */
	enum plan_block block;
	unsigned silent_after; /* BLACK_HOLE: segments of each way that pass */
	uint64_t dice;	       /* the driver's own further draws begin here */
};

/* A hash of one word: splitmix64's finaliser. */
static inline uint64_t plan_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline struct plan plan_of(uint64_t seed, unsigned i)
{
	uint64_t h = plan_mix(plan_mix(seed) ^ i);
	static const uint8_t paths[8] = { PATH_CLEAN, PATH_CLEAN, PATH_JITTER, PATH_JITTER,
					  PATH_LOSSY, PATH_LOSSY, PATH_BAD,    PATH_CLEAN };

	return (struct plan){
		.kind = i % PLAN_KINDS,
		.path = paths[h & 7],
		.v6 = h >> 3 & 1,
		.opener = h >> 4 & 1,
		.first = h >> 5 & 1,
		.block = (h >> 8 & 0xff) % PLAN_BLOCKS,
		.silent_after = 1 + (h >> 16 & 7),
		.dice = plan_mix(h),
	};
}
