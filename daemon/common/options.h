/* options.h - the values of all options: defaults, then the configuration file, then the flags.
 *
 * The table in opttable.c describes the file, the flags and --help.  The parser checks ranges by
 * it, so the values below need no further check.  Sizes are octets, durations nanoseconds. */
#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/log.h"
#include "flow/tracker_config.h" /* STUCK_TIMES */
#include "format/community.h"

enum capture_mode {
	MODE_ALL,     /* every segment */
	MODE_CONTROL, /* only SYN, FIN and RST */
	MODE_AUTO,    /* the kernel counts long transfers (a file: as MODE_ALL) */
};

enum dedupe { DEDUPE_AUTO, DEDUPE_YES, DEDUPE_NO };

struct name_list {
	char **names; /* ends with NULL; NULL if empty */
	int *lines;   /* where each stands in the file; 0: not there */
	size_t n;
};

/* Users or groups; n is 0 if empty. */
struct id_list {
	uint32_t *ids;
	size_t n;
};

/* An empty string is NULL. */
struct options {
	/* capture */
	struct name_list interfaces; /* names, patterns, "auto", "any"; never empty */
	uint64_t ring_size_bytes; /* of each decoder; a multiple of the block size, at least two */
	uint64_t ring_block_size_bytes; /* a power of two */
	uint64_t block_timeout_ns;
	enum capture_mode mode;
	unsigned auto_after; /* segments of either side */
	bool promiscuous;
	bool decap;
	bool icmp;
	char *filter;	    /* for capfilter_build(), which takes it; NULL: none */
	enum dedupe dedupe; /* see options_dedupe() */
	unsigned decoders;  /* threads per interface; live capture only */
	char *pin_decoders; /* for cpulist_parse(); NULL: do not pin */

	/* tracking */
	unsigned max_connections;
	unsigned max_half_open; /* besides these */
	uint64_t timeout_syn_sent_ns;
	uint64_t timeout_syn_received_ns;
	uint64_t timeout_established_ns;
	uint64_t timeout_half_closed_ns;
	uint64_t timeout_closing_ns;
	uint64_t timeout_time_wait_ns;
	uint64_t timeout_reset_ns;
	uint64_t stuck_after_ns[STUCK_TIMES]; /* ascending; 0: no more of them */
	unsigned anomalies_per_connection;
	unsigned anomalies_per_second; /* of each decoder */
	unsigned syn_flood_half_open;  /* of a server; 0: no flood is reported */
	unsigned syn_flood_rate;       /* per second */
	uint64_t syn_flood_interval_ns;

	/* events */
	uint32_t events; /* lines that are produced: 1 << enum line_kind (format/json.h) */
	char *socket;	 /* path; NULL: no socket */
	mode_t socket_mode;
	char *socket_group;   /* NULL: unchanged */
	char *control_socket; /* as given; see options_control_path() */
	bool to_stdout;
	unsigned max_subscribers;
	unsigned max_subscribers_per_uid;
	struct id_list allow_users, allow_groups; /* both empty: everyone */
	struct id_list pseudonymize_users, pseudonymize_groups;
	char *pseudonym_key_file;   /* NULL: a random key */
	uint64_t queue_size_bytes;  /* shared by all subscribers */
	uint64_t stats_interval_ns; /* 0: never */
	enum community_policy community_id;
	unsigned community_id_seed; /* 0..65535 */

	/* daemon */
	unsigned event_ring_size; /* events; a power of two */
	enum log_level log_level;
	char *opener; /* socket of synfind-opener; NULL: start one */

	/* flags only */
	struct name_list read_files; /* pcap or pcapng; "-": standard input; empty: capture */
	bool quiet;

	char *file;  /* the configuration file that was read, or the end of its path; NULL: none */
	bool check;  /* --check-config */
	int *set_by; /* owned; for options_set_by() */
};

/* What set an option; any other value is the line of the file. */
enum { OPTION_BY_DEFAULT = 0, OPTION_BY_FLAG = INT_MAX };

struct opt;

/* The word for @m in options and in JSON. */
const char *capture_mode_name(enum capture_mode m);

/* Reads the flags, and the file that they name or /etc/synfind/synfind.conf if it exists.
 * 0: *@ret is filled; give it back with options_free().
 * 1: --help or --version was answered on standard output; exit with 0.
 * -EINVAL: every error was logged on a line of its own, which begins with the place (file and line,
 * or the flag) and names the cause; exit with 2.
 * *@ret is written only on 0.  One thread at a time: calls getpwnam(), which in a sandbox finds
 * only the users of /etc/passwd. */
int options_parse(int argc, char **argv, struct options *ret);

/* OPTION_BY_DEFAULT, OPTION_BY_FLAG, or the last line of the file that set @opt to its value in
 * force. */
int options_set_by(const struct options *o, const struct opt *opt);

/* The path of the control socket; "": none.  By default it is beside an events.sock. */
void options_control_path(const struct options *o, char ret[static 108]);

struct place {
	char s[1100];
};

/* What named interface @i, for a message: "file:line: interface" or "--interface". */
struct place options_place(const struct options *o, size_t i);

/* For a reload: copies from @running to @fresh the options that only a start can change, and logs a
 * warning for each that differed.  0 or -ENOMEM. */
int options_keep_fixed(struct options *fresh, const struct options *running);

/* Is this entry of @interfaces something else than a full name? */
bool options_is_pattern(const char *entry);

/* Do the interfaces share packet rings?  So they do if a pattern or "any" may match hundreds.  Not
 * for "auto" alone: it names a few, and a shared ring sees the frames of all others, too. */
bool options_share_rings(const struct options *o);

/* Is a connection that several interfaces of a ring show reported once?  @shared: such a ring. */
bool options_dedupe(const struct options *o, bool shared);

/* The encapsulations to decode: a sum of enum frame_inner (wire/frame.h). */
unsigned options_inner(const struct options *o);

/* NULL, zeroed and half-filled ones are fine; leaves *@o zeroed. */
void options_free(struct options *o);
