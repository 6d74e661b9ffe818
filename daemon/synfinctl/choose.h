/* choose.h - flags that choose connections, as an expression of docs/requests.md.
 *
 * Flags are combined: --port 443 --state close_wait chooses what has both.  Items of one flag are
 * alternatives. */
#pragma once
#include <stdbool.h>
#include "synfinctl/cli.h"

enum { CHOOSE_MAX = 4096 };

struct choose_options {
	struct cli_list port, host, net, state, iface;
	const char *where;
};

extern const struct cli_flag choose_flags[];
#define CHOOSE_GROUP(type, member)                                                                 \
	{                                                                                          \
		"Which connections", choose_flags, offsetof(type, member)                          \
	}

struct choose {
	char text[CHOOSE_MAX]; /* the expression; "" chooses everything */
	size_t n;
	bool full;
};

/* The expression of the flags.  Names of hosts are resolved.  CLI_FOUND, or an exit status after an
 * error line. */
int choose_make(const struct choose_options *o, struct choose *ret);

/* Adds a condition: && (TEXT). */
__attribute__((format(printf, 2, 3))) void choose_and(struct choose *c, const char *fmt, ...);

/* CLI_FOUND, or an exit status after an error line: it is too long, or wrong. */
int choose_check(const struct choose *c);

struct where; /* "format/where.h" */

/* Compiles an expression; @what names it in an error line.  CLI_FOUND, or an exit status. */
int choose_compile(const char *what, const char *text, struct where **ret);
