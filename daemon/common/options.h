/* options.h - what the user asked for: defaults, then the configuration file, then the flags.
 *
 * One table, opttable.h, drives the file, the flags and --help.  Ranges are checked there: the
 * values below can be used as they are.  Sizes are octets, durations nanoseconds. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>	/* mode_t */
#include "common/log.h"	/* enum log_level */
#include "format/community.h"

enum capture_mode {
	MODE_ALL,     /* every segment */
	MODE_CONTROL, /* SYN, FIN and RST only */
	MODE_AUTO,    /* all but what the kernel can count as well; a file: all */
};

/* Users or groups, by number; empty: n is 0. */
struct id_list {
	uint32_t *ids;
	size_t n;
};

/* Strings are never "": what is not set is NULL. */
struct options {
	/* capture */
	char **interfaces;	  /* names, patterns, "auto", "any"; ends with NULL, never empty */
	uint64_t ring_size_bytes; /* of each interface; a multiple, at least two, of the next */
	uint64_t ring_block_size_bytes; /* a power of two */
	uint64_t block_timeout_ns;
	enum capture_mode mode;
	unsigned auto_after; /* segments of a side */
	bool promiscuous;
	bool decap;	    /* look for TCP in tunnels */
	bool icmp;	    /* look at ICMP errors */
	unsigned decoders;  /* threads per interface, or for the file */
	char *pin_decoders; /* "auto" or a list for cpulist_parse(); NULL: do not pin */

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
	unsigned anomalies_per_connection;
	unsigned anomalies_per_second; /* in all */
	unsigned syn_flood_half_open;  /* of a server; 0: never a flood */
	unsigned syn_flood_rate;       /* in a second */
	uint64_t syn_flood_interval_ns;

	/* events */
	char *socket; /* path; NULL: no socket */
	mode_t socket_mode;
	char *socket_group; /* NULL: leave it */
	bool to_stdout;
	unsigned max_subscribers;
	unsigned max_subscribers_per_uid;
	struct id_list allow_users, allow_groups; /* both empty: everybody */
	struct id_list pseudonymize_users, pseudonymize_groups;
	char *pseudonym_key_file;   /* NULL: a random key */
	uint64_t queue_size_bytes;  /* per subscriber */
	uint64_t stats_interval_ns; /* 0: never */
	enum community_policy community_id;
	unsigned community_id_seed; /* 0..65535 */

	/* daemon */
	unsigned event_ring_size; /* events; a power of two */
	enum log_level log_level;
	char *opener; /* socket of synfind-opener; NULL: make one */

	/* flags only */
	char *read_file; /* pcap or pcapng; "-": stdin; NULL: capture */
	bool quiet;
};

/* As the option spells it. */
const char *capture_mode_name(enum capture_mode m);

/* Reads the flags and the file they name (or /etc/synfind/synfind.conf, if there is one).
 * Returns 0: go on with *@ret, which the caller gives back with options_free();
 * 1: --help, --version or --check-config was answered on stdout, exit with 0;
 * -EINVAL: every error was logged, one line each that begins with the place (file and line, or
 * the flag) and tells the cause; exit with 2.
 * *@ret is written only on 0.  Uses getopt_long(), and getpwnam() for names of users, which in a
 * sandbox finds those of /etc/passwd only: one thread at a time. */
int options_parse(int argc, char **argv, struct options *ret);

/* For a reload: gives @fresh the values that @running has of options which only a start can change,
 * and logs a warning for each that differed.  0 or -ENOMEM. */
int options_keep_fixed(struct options *fresh, const struct options *running);

/* Where frames are to be looked into: a sum of enum frame_inner (wire/frame.h). */
unsigned options_inner(const struct options *o);

/* NULL, zeroed and half-filled ones are fine; leaves *@o zeroed. */
void options_free(struct options *o);
