#include "common/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "flow/tracker.h" /* ANOMALIES_TOLD_MAX */
#include "wire/frame.h"	  /* enum frame_inside */

#define DEFAULT_CONFIG "/etc/synfind/synfind.conf"

enum {
	MESSAGE_MAX = 256,
	ERRORS_SHOWN = 100,	    /* a binary file should not fill the terminal */
	FILE_MAX_OCTETS = 64 << 20, /* nor an endless one keep us for ever */
};

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define MS  UINT64_C(1000000)
#define SEC (1000 * MS)
#define MIN (60 * SEC)
#define DAY (24 * 60 * MIN)

/* ---- the table ---- */

enum opt_type {
	OPT_BOOL,
	OPT_NUMBER,
	OPT_SIZE,
	OPT_TIME,
	OPT_MODE,
	OPT_WORD,
	OPT_STRING,
	OPT_LIST,
	/* Answered by options_parse() itself, no field; OPT_CONFIG takes a value. */
	OPT_CONFIG,
	OPT_CHECK,
	OPT_HELP,
	OPT_VERSION,
};

enum section {
	CAPTURE,
	TRACKING,
	EVENTS,
	DAEMON,
	FLAGS_ONLY,
	N_SECTION,
};

static const struct {
	const char *name, *title;
} sections[N_SECTION] = {
	[CAPTURE] = { "capture", "What is watched, and how:" },
	[TRACKING] = { "tracking", "How much is remembered, and for how long:" },
	[EVENTS] = { "events", "Where events go, and what is in them:" },
	[DAEMON] = { "daemon", "The daemon itself:" },
	[FLAGS_ONLY] = { NULL, "This run (flags only, not for the configuration file):" },
};

/* A name in the file is also the flag --name; a bool is --name and --no-name as well. */
struct opt {
	const char *name;
	enum section section;
	enum opt_type type;
	size_t offset;	     /* of the field in struct options */
	uint64_t min, max;   /* of the value; of the length of a string */
	const char *initial; /* the default, parsed like anything else; NULL: none */
	const char *value;   /* how --help calls it; OPT_WORD: the words, divided by '|' */
	const char *help;
	uint64_t unit; /* OPT_TIME: what a plain number counts */
	bool power_of_two;
	bool zero;   /* 0 is allowed too, below min */
	bool live;   /* a reload can change it */
	char letter; /* short flag */
};

/* Offset of @field, which must be a @ctype: a wrong row does not compile. */
#define FIELD(field, ctype)                                                                        \
	(offsetof(struct options, field) +                                                         \
	 0 * sizeof(char[__builtin_types_compatible_p(__typeof__(((struct options *)0)->field),    \
						      ctype)                                       \
				 ? 1                                                               \
				 : -1]))

/* clang-format off */
#define ROW(kind, field, ctype, least, most) \
	.type = kind, .offset = FIELD(field, ctype), .min = least, .max = most
#define BOOL(field)               ROW(OPT_BOOL, field, bool, 0, 1)
#define NUMBER(field, min, max)   ROW(OPT_NUMBER, field, unsigned, min, max)
#define SIZE(field, min, max)     ROW(OPT_SIZE, field##_bytes, uint64_t, min, max)
#define TIME(field, min, max)     ROW(OPT_TIME, field##_ns, uint64_t, min, max)
#define MODE(field)               ROW(OPT_MODE, field, mode_t, 0, 0777)
#define WORD(field, ctype)        ROW(OPT_WORD, field, ctype, 0, 0)
#define STRING(field, min, max)   ROW(OPT_STRING, field, char *, min, max)
#define LIST(field)               ROW(OPT_LIST, field, char **, 0, 0)
#define ANSWER(kind)              .type = kind, .max = 0
#define TIMEOUT(name, field, initial, help) \
	{ "timeout-" name, TRACKING, TIME(timeout_##field, MS, 365 * DAY), initial, "TIME", help, \
	  .unit = SEC, .live = true }

static const struct opt opts[] = {
	{ "interface", CAPTURE, LIST(interfaces), "auto", "NAME[,NAME]",
	  "Interfaces to watch, by name or pattern (veth*); auto: those that carry a default "
	  "route, and loopback; any: all. Can be given several times.", .letter = 'i', .live = true },
	{ "ring-size", CAPTURE, SIZE(ring_size, MIB, 4 * GIB), "64M", "SIZE",
	  "Capture ring of each interface; at least two blocks." },
	{ "ring-block-size", CAPTURE, SIZE(ring_block_size, 128 * KIB, 64 * MIB), "1M", "SIZE",
	  "Block of that ring; a power of two.", .power_of_two = true },
	{ "block-timeout", CAPTURE, TIME(block_timeout, MS, SEC), "10ms", "TIME",
	  "A block is handed over after this time even if it is not full.", .unit = MS },
	{ "promiscuous", CAPTURE, BOOL(promiscuous), "no", NULL,
	  "Also take in frames that are meant for other hosts." },
	{ "decap", CAPTURE, BOOL(decap), "no", NULL,
	  "Also follow TCP in tunnels: VXLAN, Geneve, GRE, ERSPAN, IP in IP, GTP-U." },
	{ "icmp", CAPTURE, BOOL(icmp), "no", NULL,
	  "Also look at ICMP errors: a SYN that could not be delivered has failed." },

	{ "max-connections", TRACKING, NUMBER(max_connections, 1024, 268435456), "1048576", "N",
	  "Connections remembered at once; each takes about 125 octets of memory.", .live = true },
	{ "max-half-open", TRACKING, NUMBER(max_half_open, 256, 67108864), "65536", "N",
	  "Half-open ones; these have a table of their own, so that a SYN flood stays there.", .live = true },
	TIMEOUT("syn-sent", syn_sent, "70s", "Forget a SYN that nobody answered."),
	TIMEOUT("syn-received", syn_received, "70s", "Forget a handshake that was not completed."),
	TIMEOUT("established", established, "24h", "Forget a silent open connection."),
	TIMEOUT("half-closed", half_closed, "24h", "Forget a silent connection closed by one side."),
	TIMEOUT("closing", closing, "10min", "Forget a connection whose FIN is not acknowledged."),
	TIMEOUT("time-wait", time_wait, "60s", "How long a closed connection is remembered."),
	TIMEOUT("reset", reset, "10s", "How long a reset connection is remembered."),
	{ "anomalies-per-connection", TRACKING,
	  NUMBER(anomalies_per_connection, 0, ANOMALIES_TOLD_MAX), "8", "N",
	  "Anomalies of one connection that are told one by one; more are only counted.", .live = true },
	{ "anomalies-per-second", TRACKING, NUMBER(anomalies_per_second, 0, 1000000), "100", "N",
	  "Anomalies told in one second, all connections together.", .live = true },

	/* 107: what fits into sun_path (unix(7)) */
	{ "socket", EVENTS, STRING(socket, 0, 107), "/run/synfind/events.sock", "PATH",
	  "Unix socket where subscribers connect; empty: none." },
	{ "socket-mode", EVENTS, MODE(socket_mode), "0660", "MODE",
	  "Permissions of the socket, octal." },
	{ "socket-group", EVENTS, STRING(socket_group, 0, 32), "", "GROUP",
	  "Group that owns the socket; empty: the daemon's own." },
	{ "stdout", EVENTS, BOOL(to_stdout), "no", NULL,
	  "Also print events on standard output." },
	{ "max-subscribers", EVENTS, NUMBER(max_subscribers, 1, 65536), "256", "N",
	  "Subscribers at once.", .live = true },
	{ "queue-size", EVENTS, SIZE(queue_size, 64 * KIB, 4 * GIB), "16M", "SIZE",
	  "Newest lines that are kept, once for all subscribers: who falls further "
	  "behind loses events." },
	{ "stats-interval", EVENTS, TIME(stats_interval, SEC, DAY), "60s", "TIME",
	  "Time between two stats events; 0: none.", .unit = SEC, .zero = true, .live = true },
	{ "community-id", EVENTS, WORD(community_id, enum community_id), "open-close",
	  "open-close|all|off", "Which events carry a community_id.", .live = true },
	{ "community-id-seed", EVENTS, NUMBER(community_id_seed, 0, 65535), "0", "N",
	  "Seed of the community_id; the same at all tools that are to agree.", .live = true },

	{ "event-ring-size", DAEMON, NUMBER(event_ring_size, 1024, 16777216), "65536", "N",
	  "Events between a decoder and the publisher; a power of two.", .power_of_two = true },
	{ "log-level", DAEMON, WORD(log_level, enum log_level), "info", "err|warn|info|debug",
	  "How much is logged on standard error.", .live = true },
	{ "opener", DAEMON, STRING(opener, 0, 107), "", "PATH",
	  "Socket of a synfind-opener; empty: make one, as a child." },

	{ "read", FLAGS_ONLY, STRING(read_file, 1, PATH_MAX - 1), NULL, "FILE",
	  "Read this pcap or pcapng file (-: standard input) instead of watching; events go to "
	  "standard output.", .letter = 'r' },
	{ "quiet", FLAGS_ONLY, BOOL(quiet), NULL, NULL,
	  "With --read: track, but print the summary only." },
	{ "config", FLAGS_ONLY, ANSWER(OPT_CONFIG), NULL, "FILE",
	  "Configuration file; without this flag " DEFAULT_CONFIG ", if there is one." },
	{ "check-config", FLAGS_ONLY, ANSWER(OPT_CHECK), NULL, NULL,
	  "Check file and flags, show the sizes that follow from them, and exit." },
	{ "help", FLAGS_ONLY, ANSWER(OPT_HELP), NULL, NULL, "Print this and exit.",
	  .letter = 'h' },
	{ "version", FLAGS_ONLY, ANSWER(OPT_VERSION), NULL, NULL, "Print the version and exit.",
	  .letter = 'V' },
};

static const struct unit {
	const char *name;
	uint64_t factor;
} size_units[] = { { "G", GIB }, { "M", MIB }, { "K", KIB }, { "", 1 } },
  time_units[] = { { "d", DAY }, { "h", 60 * MIN }, { "min", MIN }, { "s", SEC },
		   { "ms", MS }, { "us", MS / 1000 }, { "ns", 1 } };
/* clang-format on */

enum { N_OPT = ARRAY_SIZE(opts) };

static void freep(void *p)
{
	free(*(void **)p);
}

static void *field(struct options *o, const struct opt *opt)
{
	return (char *)o + opt->offset;
}

static bool takes_value(const struct opt *opt)
{
	return opt->type <= OPT_CONFIG && opt->type != OPT_BOOL;
}

/* ---- from numbers to text ---- */

struct number_text {
	char s[32];
};

/* @v as a user would write it: 64M, 10min, 0660. */
static struct number_text number_text(enum opt_type type, uint64_t v)
{
	const struct unit *u = type == OPT_SIZE ? size_units : time_units;
	struct number_text t;

	if (type == OPT_SIZE || type == OPT_TIME) {
		while (v % u->factor)
			u++;
		if (v == 0)
			u = type == OPT_SIZE ? size_units + ARRAY_SIZE(size_units) - 1
					     : time_units + 3;
		snprintf(t.s, sizeof t.s, "%llu%s", (unsigned long long)(v / u->factor), u->name);
	} else {
		snprintf(t.s, sizeof t.s, type == OPT_MODE ? "%04llo" : "%llu",
			 (unsigned long long)v);
	}
	return t;
}

/* A user's text within a message: long ones are cut, so that the rest of the message is seen. */
struct quoted {
	char s[64];
};

static struct quoted quoted(const char *text)
{
	struct quoted q;

	if ((size_t)snprintf(q.s, sizeof q.s, "'%s'", text) >= sizeof q.s)
		strcpy(q.s + sizeof q.s - sizeof "...'", "...'");
	return q;
}

/* ---- from text to values ---- */

/* Digits of @base at @s, the first one at least.  0; -EINVAL: none; -ERANGE: too many. */
static int parse_digits(const char *s, unsigned base, const char **ret_rest, uint64_t *ret)
{
	uint64_t v = 0;
	bool fits = true;

	if (*s < '0' || *s >= (char)('0' + base))
		return -EINVAL;
	for (; *s >= '0' && *s < (char)('0' + base); s++)
		if (__builtin_mul_overflow(v, base, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			fits = false;
	*ret_rest = s;
	*ret = v;
	return fits ? 0 : -ERANGE;
}

/* The number that @text is for @opt, ranges not looked at.  0, -EINVAL, -ERANGE. */
static int parse_number(const struct opt *opt, const char *text, uint64_t *ret)
{
	const struct unit *u = opt->type == OPT_SIZE ? size_units : time_units;
	size_t n = opt->type == OPT_SIZE   ? ARRAY_SIZE(size_units)
		   : opt->type == OPT_TIME ? ARRAY_SIZE(time_units)
					   : 0;
	const char *rest = text;
	uint64_t v = 0, factor = 0;
	int r = parse_digits(text, opt->type == OPT_MODE ? 8 : 10, &rest, &v);

	if (r == -EINVAL)
		return r;
	if (!*rest)
		factor = opt->type == OPT_TIME ? opt->unit : 1;
	for (size_t i = 0; i < n && !factor; i++)
		if (!(opt->type == OPT_SIZE ? strcasecmp : strcmp)(rest, u[i].name))
			factor = u[i].factor;
	if (!factor)
		return -EINVAL;
	if (r < 0 || __builtin_mul_overflow(v, factor, &v))
		return -ERANGE;
	*ret = v;
	return 0;
}

/* Writes what a number of @opt has to look like, and its range. */
static void say_allowed(const struct opt *opt, char msg[static MESSAGE_MAX])
{
	size_t n = strlen(msg);

	snprintf(msg + n, MESSAGE_MAX - n, "; allowed: %s%s to %s", opt->zero ? "0, " : "",
		 number_text(opt->type, opt->min).s, number_text(opt->type, opt->max).s);
}

static int set_number(const struct opt *opt, const char *text, struct options *o,
		      char reterr[static MESSAGE_MAX])
{
	uint64_t v;
	int r = parse_number(opt, text, &v);

	if (r == -EINVAL && opt->type == OPT_TIME)
		snprintf(reterr, MESSAGE_MAX,
			 "%s is not a duration (a whole number and ns, us, ms, s, min, h or d; "
			 "without a unit: %s)",
			 quoted(text).s, opt->unit == MS ? "ms" : "s");
	else if (r == -EINVAL)
		snprintf(reterr, MESSAGE_MAX, "%s is not %s", quoted(text).s,
			 opt->type == OPT_SIZE ? "a size (a whole number, with K, M or G if wanted)"
			 : opt->type == OPT_MODE ? "an octal mode"
						 : "a whole number");
	else if (r < 0 || v > opt->max || (v < opt->min && !(opt->zero && v == 0)))
		snprintf(reterr, MESSAGE_MAX, "%s is out of range", quoted(text).s);
	else if (opt->power_of_two && (v & (v - 1)))
		snprintf(reterr, MESSAGE_MAX, "%s is not a power of two", quoted(text).s);
	else if (opt->type == OPT_SIZE || opt->type == OPT_TIME)
		return *(uint64_t *)field(o, opt) = v, 0;
	else if (opt->type == OPT_MODE)
		return *(mode_t *)field(o, opt) = (mode_t)v, 0;
	else
		return *(unsigned *)field(o, opt) = (unsigned)v, 0;
	say_allowed(opt, reterr);
	return -EINVAL;
}

static int set_bool(const struct opt *opt, const char *text, struct options *o,
		    char reterr[static MESSAGE_MAX])
{
	static const char *const words[][2] = {
		{ "no", "yes" }, { "false", "true" }, { "off", "on" }, { "0", "1" }
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		for (int v = 0; v < 2; v++)
			if (!strcmp(text, words[i][v])) {
				*(bool *)field(o, opt) = v;
				return 0;
			}
	snprintf(reterr, MESSAGE_MAX,
		 "%s is neither yes nor no; allowed: yes, no, true, false, on, off, 1, 0",
		 quoted(text).s);
	return -EINVAL;
}

/* The words stand in the order of the enum. */
static int set_word(const struct opt *opt, const char *text, struct options *o,
		    char reterr[static MESSAGE_MAX])
{
	const char *word = opt->value;
	size_t n = strlen(text);

	for (unsigned i = 0;; i++) {
		size_t len = strcspn(word, "|");

		if (len == n && !memcmp(word, text, n)) {
			*(unsigned *)field(o, opt) = i; /* GCC's type of such an enum */
			return 0;
		}
		if (!word[len])
			break;
		word += len + 1;
	}
	snprintf(reterr, MESSAGE_MAX, "%s is none of the words allowed: %s", quoted(text).s,
		 opt->value);
	return -EINVAL;
}

static int set_string(const struct opt *opt, const char *text, struct options *o,
		      char reterr[static MESSAGE_MAX])
{
	char **s = field(o, opt);
	size_t n = strlen(text);
	char *copy = NULL;

	if (n < opt->min) {
		snprintf(reterr, MESSAGE_MAX, "must not be empty");
		return -EINVAL;
	}
	if (n > opt->max) {
		snprintf(reterr, MESSAGE_MAX, "%s is too long: %zu octets; allowed: up to %llu",
			 quoted(text).s, n, (unsigned long long)opt->max);
		return -EINVAL;
	}
	if (n && !(copy = strdup(text))) {
		snprintf(reterr, MESSAGE_MAX, "out of memory");
		return -ENOMEM;
	}
	free(*s);
	*s = copy;
	return 0;
}

static size_t list_length(char **list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

static void list_free(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

/* A name that the kernel would accept (dev_valid_name() in net/core/dev.c), or a pattern, which
 * may be longer: veth[0-9][0-9]* */
static bool valid_interface(const char *s, size_t n)
{
	bool pattern = memchr(s, '*', n) || memchr(s, '?', n) || memchr(s, '[', n);

	if (n < 1 || n > (pattern ? 64 : 15) || (n <= 2 && !memcmp(s, "..", n)))
		return false;
	for (size_t i = 0; i < n; i++)
		if (isspace((unsigned char)s[i]) || s[i] == '/' || s[i] == ':')
			return false;
	return true;
}

/* Appends, each name once: capturing twice on one interface would double its events. */
static int list_append(char ***list, const char *s, size_t len)
{
	size_t n = list_length(*list);
	char **grown;

	for (size_t i = 0; i < n; i++)
		if (strlen((*list)[i]) == len && !memcmp((*list)[i], s, len))
			return 0;
	grown = realloc(*list, (n + 2) * sizeof *grown);
	if (!grown)
		return -ENOMEM;
	*list = grown;
	grown[n + 1] = NULL;
	grown[n] = strndup(s, len);
	return grown[n] ? 0 : -ENOMEM;
}

static int set_list(const struct opt *opt, const char *text, struct options *o,
		    char reterr[static MESSAGE_MAX])
{
	for (const char *s = text;; s++) {
		size_t len;

		s += strspn(s, " \t");
		len = strcspn(s, ",");
		size_t n = len;

		while (n && isspace((unsigned char)s[n - 1]))
			n--;
		if (!valid_interface(s, n)) {
			snprintf(reterr, MESSAGE_MAX,
				 "%s: an interface name has 1 to 15 characters (a pattern 64), no "
				 "spaces, '/' or ':'; names are divided by commas",
				 quoted(text).s);
			return -EINVAL;
		}
		if (list_append(field(o, opt), s, n) < 0) {
			snprintf(reterr, MESSAGE_MAX, "out of memory");
			return -ENOMEM;
		}
		s += len;
		if (!*s)
			return 0;
	}
}

/* Parses @text into @opt's field; lists append.  On failure @reterr says why. */
static int set_value(const struct opt *opt, const char *text, struct options *o,
		     char reterr[static MESSAGE_MAX])
{
	switch (opt->type) {
	case OPT_BOOL:
		return set_bool(opt, text, o, reterr);
	case OPT_WORD:
		return set_word(opt, text, o, reterr);
	case OPT_STRING:
		return set_string(opt, text, o, reterr);
	case OPT_LIST:
		return set_list(opt, text, o, reterr);
	case OPT_NUMBER:
	case OPT_SIZE:
	case OPT_TIME:
	case OPT_MODE:
		return set_number(opt, text, o, reterr);
	default:
		return 0;
	}
}

/* ---- names ---- */

/* Levenshtein's distance; anything above 40 octets is far from everything. */
static unsigned edit_distance(const char *a, const char *b)
{
	unsigned row[42];
	size_t n = strlen(b);

	if (strlen(a) > 40 || n > 40)
		return UINT_MAX;
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[n];
}

struct guess {
	const char *name; /* what was given */
	unsigned distance;
	char text[MESSAGE_MAX]; /* "; did you mean ...?" or "" */
};

/* Up to a third of the name may be wrong; a beginning of @candidate counts as close. */
static void guess_offer(struct guess *g, const char *candidate, const char *before,
			const char *after)
{
	size_t n = strlen(g->name);
	unsigned d = edit_distance(g->name, candidate);

	if (n >= 3 && !strncmp(g->name, candidate, n))
		d = 1;
	if (d < g->distance && d <= (n < 3 ? 1 : n < 9 ? 2 : 3)) {
		g->distance = d;
		snprintf(g->text, sizeof g->text, "; did you mean %s%s%s?", before, candidate,
			 after);
	}
}

static struct guess guess_option(const char *name, bool flag)
{
	struct guess g = { .name = name, .distance = UINT_MAX };
	const char *before = flag ? "'--" : "'";

	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		char no[48];

		if (!flag && opt->section == FLAGS_ONLY)
			continue;
		guess_offer(&g, opt->name, before, "'");
		if (flag && opt->type == OPT_BOOL) {
			snprintf(no, sizeof no, "no-%s", opt->name);
			guess_offer(&g, no, before, "'");
		}
	}
	return g;
}

static struct guess guess_section(const char *name)
{
	struct guess g = { .name = name, .distance = UINT_MAX };

	for (int i = 0; i < FLAGS_ONLY; i++)
		guess_offer(&g, sections[i].name, "[", "]");
	return g;
}

static const struct opt *find_option(const char *name)
{
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		if (!strcmp(opt->name, name))
			return opt;
	return NULL;
}

/* ---- one run of the parser ---- */

/* Who set an option; everything else is the line of the file. */
enum { BY_DEFAULT = 0, BY_FLAG = INT_MAX };

struct flag {
	const struct opt *opt;
	const char *value;
};

struct parser {
	struct options o;
	int set_by[N_OPT];
	const char *path; /* of the file that was read; NULL: none */
	unsigned errors;
	struct flag *flags; /* in the order given; at most argc */
	size_t n_flags;
};

static void parser_done(struct parser *p)
{
	options_free(&p->o);
	free(p->flags);
}

__attribute__((format(printf, 2, 3))) static void complain(struct parser *p, const char *fmt, ...)
{
	char text[LOG_LINE_MAX];
	va_list ap;

	if (p->errors++ >= ERRORS_SHOWN)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_error("%s", text);
}

/* Complains about @opt's value, at the place where it was given. */
static void complain_at(struct parser *p, const struct opt *opt, const char *msg)
{
	int by = p->set_by[opt - opts];

	if (by == BY_FLAG || by == BY_DEFAULT)
		complain(p, "--%s: %s", opt->name, msg);
	else
		complain(p, "%s:%d: %s: %s", p->path, by, opt->name, msg);
}

/* Sets @opt from the file's line @by, or BY_FLAG.  A list starts anew with the first flag (or the
 * first line) that names it, and grows with the next ones. */
static void apply(struct parser *p, const struct opt *opt, const char *text, int by)
{
	int *set_by = &p->set_by[opt - opts];
	char msg[MESSAGE_MAX];

	if (opt->type == OPT_LIST && (*set_by == BY_DEFAULT || (by == BY_FLAG && *set_by != by))) {
		char ***list = field(&p->o, opt);

		list_free(*list);
		*list = NULL;
	}
	*set_by = by;
	if (set_value(opt, text, &p->o, msg) < 0)
		complain_at(p, opt, msg);
}

/* ---- the file ----
 *
 * inih divides name from value.  It tells its handler no line number, gives back only the first
 * bad line, cuts section names at 49 octets, takes what follows ']' for nothing, goes on in the
 * next read with what did not fit its buffer (200 octets as Debian builds it) and joins indented
 * lines to the one before.  So the reader, which feeds it line by line, sees to all these. */

struct conf_file {
	struct parser *p;
	FILE *f;
	int line;
	size_t octets;
	enum section section; /* FLAGS_ONLY: none, or an unknown one */
	bool pending;	      /* the handler has yet to see the current line */
	bool ended;
};

/* One line into @buf without its end, leading and trailing blanks.  Complains and makes it empty
 * if it is too long for @buf or has octets that no text has.  False at the end of the file. */
static bool read_line(struct conf_file *c, char *buf, size_t size)
{
	size_t n = 0, stored = 0, from = 0;
	int bad = -1, ch;

	while ((ch = getc_unlocked(c->f)) != EOF && ch != '\n') {
		if (++c->octets > FILE_MAX_OCTETS)
			break;
		n++;
		if (stored < size - 1)
			buf[stored++] = (char)ch;
		/* A '\r' is only good just before the end of the line. */
		if (bad < 0 && ((ch < 0x20 && ch != '\t' && ch != '\r') || ch == 0x7f))
			bad = ch;
	}
	if (ch == EOF && n == 0)
		return false;
	c->line++;
	if (c->octets > FILE_MAX_OCTETS) {
		complain(c->p, "%s:%d: the file is longer than %d octets; not read any further",
			 c->p->path, c->line, FILE_MAX_OCTETS);
		return false;
	}
	if (n == stored) {
		while (stored && isspace((unsigned char)buf[stored - 1]))
			stored--;
		if (bad < 0 && memchr(buf, '\r', stored))
			bad = '\r';
	}
	buf[stored] = '\0';
	if (bad >= 0) {
		complain(c->p, "%s:%d: control character 0x%02x; this is not a text file",
			 c->p->path, c->line, (unsigned)bad);
		*buf = '\0';
		return true;
	}
	if (n >= size) {
		complain(c->p,
			 "%s:%d: the line has %zu octets; allowed: up to %zu (a list can go over "
			 "several lines, each with its name)",
			 c->p->path, c->line, n, size - 1);
		*buf = '\0';
		return true;
	}
	if (c->line == 1 && !strncmp(buf, "\xef\xbb\xbf", 3)) /* UTF-8 byte order mark */
		from = 3;
	from += strspn(buf + from, " \t");
	memmove(buf, buf + from, stored + 1 - from);
	return true;
}

/* @line begins with '['. */
static void enter_section(struct conf_file *c, const char *line)
{
	char *name AUTO(freep) = NULL;
	const char *end = strchr(line, ']');
	const char *rest = end ? end + 1 + strspn(end + 1, " \t") : NULL;

	c->section = FLAGS_ONLY;
	if (!end || (*rest && *rest != ';' && *rest != '#')) {
		complain(c->p, "%s:%d: %s is not a section; expected [name] alone on its line",
			 c->p->path, c->line, quoted(line).s);
		return;
	}
	name = strndup(line + 1, (size_t)(end - line - 1));
	if (!name) {
		complain(c->p, "%s:%d: out of memory", c->p->path, c->line);
		return;
	}
	for (int i = 0; i < FLAGS_ONLY; i++)
		if (!strcmp(name, sections[i].name)) {
			c->section = (enum section)i;
			return;
		}
	complain(c->p, "%s:%d: unknown section %s%s", c->p->path, c->line, quoted(name).s,
		 guess_section(name).text);
}

/* ini_reader: the next line that inih has to divide, into @buf of @size octets. */
static char *feed_line(char *buf, int size, void *stream)
{
	struct conf_file *c = stream;

	for (;;) {
		if (c->pending)
			complain(c->p, "%s:%d: expected name = value", c->p->path, c->line);
		c->pending = false;
		/* Its end of line and NUL have to fit as well. */
		if (c->ended || !read_line(c, buf, (size_t)size - 1)) {
			c->ended = true;
			return NULL;
		}
		if (*buf == '[')
			enter_section(c, buf);
		else if (*buf && *buf != '#' && *buf != ';')
			break;
	}
	c->pending = true;
	return strcat(buf, "\n");
}

/* ini_handler.  Always "success": errors are told and counted here. */
static int take_line(void *user, const char *section, const char *name, const char *value)
{
	struct conf_file *c = user;
	struct parser *p = c->p;
	const struct opt *opt;

	(void)section;
	if (!name || !*name || !value)
		return 1; /* still pending, so feed_line() complains */
	c->pending = false;

	opt = find_option(name);
	if (!opt)
		complain(p, "%s:%d: unknown option %s%s", p->path, c->line, quoted(name).s,
			 guess_option(name, false).text);
	else if (opt->section == FLAGS_ONLY)
		complain(p, "%s:%d: '%s' can only be given as a flag, --%s", p->path, c->line, name,
			 name);
	else if (c->section != FLAGS_ONLY && c->section != opt->section)
		complain(p, "%s:%d: '%s' belongs to section [%s], not [%s]", p->path, c->line, name,
			 sections[opt->section].name, sections[c->section].name);
	else if (opt->type != OPT_LIST && p->set_by[opt - opts] != BY_DEFAULT)
		complain(p, "%s:%d: '%s' was given already in line %d", p->path, c->line, name,
			 p->set_by[opt - opts]);
	else
		apply(p, opt, value, c->line);
	return 1;
}

/* Reads @path; a file that is not there is fine unless it was @wanted. */
static void read_config(struct parser *p, const char *path, bool wanted)
{
	struct conf_file c = { .p = p, .section = FLAGS_ONLY };
	int r;

	c.f = fopen(path, "re");
	if (!c.f && (wanted || (errno != ENOENT && errno != ENOTDIR))) {
		p->errors++;
		log_errno(errno, "%s%s: cannot be opened", wanted ? "--config: " : "", path);
	}
	if (!c.f)
		return;
	p->path = path;
	r = ini_parse_stream(feed_line, &c, take_line, &c);
	if (ferror(c.f)) {
		p->errors++;
		log_errno(errno, "%s:%d: cannot be read", path, c.line + 1);
	} else if (r < 0 || (r > 0 && !p->errors)) {
		complain(p, "%s:%d: cannot be parsed", path, r < 0 ? c.line : r);
	}
	fclose(c.f);
}

/* ---- the flags ---- */

enum { LONG_ID = 256, NO_ID = LONG_ID + N_OPT };

/* The flag that argv's element "--@given" spells in full; *@ret_no: as --no-name.  getopt_long()
 * itself takes any unique beginning: those would break when options are added. */
static const struct opt *find_flag(const char *given, bool *ret_no)
{
	size_t n = strcspn(given, "=");

	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		if (strlen(opt->name) == n && !memcmp(opt->name, given, n))
			return *ret_no = false, opt;
		if (opt->type == OPT_BOOL && n > 3 && !memcmp(given, "no-", 3) &&
		    strlen(opt->name) == n - 3 && !memcmp(opt->name, given + 3, n - 3))
			return *ret_no = true, opt;
	}
	return NULL;
}

static const struct opt *find_letter(int letter)
{
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		if (opt->letter == letter)
			return opt;
	return NULL;
}

static void complain_unknown(struct parser *p, const char *given)
{
	char *name AUTO(freep) = strndup(given, strcspn(given, "="));

	complain(p, "--%s: unknown option%s", name ? name : given,
		 name ? guess_option(name, true).text : "");
}

static void complain_stray(struct parser *p, const char *arg)
{
	complain(p, "%s: unexpected argument; did you mean --read=FILE or --interface=NAME?",
		 quoted(arg).s);
}

/* What getopt_long() wants to know, from our table. */
struct getopt_tables {
	struct option longs[2 * N_OPT + 1];
	char letters[2 * N_OPT + 3];
	char no[N_OPT][48]; /* "no-name" of the bools */
};

static void build_tables(struct getopt_tables *t)
{
	struct option *l = t->longs;
	char *s = stpcpy(t->letters, "-:"); /* strays in their place; ':' for a missing value */

	for (int i = 0; i < N_OPT; i++) {
		const struct opt *opt = &opts[i];
		int arg = opt->type == OPT_BOOL ? optional_argument
			  : takes_value(opt)	? required_argument
						: no_argument;

		*l++ = (struct option){ opt->name, arg, NULL, LONG_ID + i };
		if (opt->type == OPT_BOOL) {
			snprintf(t->no[i], sizeof t->no[i], "no-%s", opt->name);
			*l++ = (struct option){ t->no[i], no_argument, NULL, NO_ID + i };
		}
		if (opt->letter)
			*s++ = opt->letter;
		if (opt->letter && takes_value(opt))
			*s++ = ':';
	}
	*l = (struct option){ 0 };
	*s = '\0';
}

/* Collects the flags into @p->flags, so that the file can be read before they are applied.
 * Returns the first of --help and --version with no error before it, or NULL. */
static const struct opt *read_flags(struct parser *p, int argc, char **argv)
{
	struct getopt_tables tables;
	bool stray_is_value = false; /* of an unknown flag: one complaint is enough */

	build_tables(&tables);
	optind = 0; /* glibc: begin anew */
	opterr = 0;
	for (;;) {
		int at = optind ? optind : 1;
		int id = getopt_long(argc, argv, tables.letters, tables.longs, NULL);
		const struct opt *opt;
		bool no = false;

		if (id == -1)
			break;
		if (id == 1) {
			if (!stray_is_value)
				complain_stray(p, optarg);
			stray_is_value = false;
			continue;
		}
		stray_is_value = false;
		if (!strncmp(argv[at], "--", 2)) {
			opt = find_flag(argv[at] + 2, &no);
			if (!opt) {
				complain_unknown(p, argv[at] + 2);
				stray_is_value = id == '?' && !strchr(argv[at], '=');
				continue;
			}
		} else {
			opt = find_letter(id == '?' || id == ':' ? optopt : id);
			if (!opt) {
				complain(p, "-%c: unknown option", optopt);
				continue;
			}
		}
		if (id == ':')
			complain(p, "--%s: needs a value, --%s=%s", opt->name, opt->name,
				 opt->value);
		else if (id == '?')
			complain(p, "--%s%s: takes no value", no ? "no-" : "", opt->name);
		else if ((opt->type == OPT_HELP || opt->type == OPT_VERSION) && !p->errors)
			return opt;
		else if (opt->type != OPT_HELP && opt->type != OPT_VERSION)
			p->flags[p->n_flags++] = (struct flag){
				opt, opt->type != OPT_BOOL ? optarg : no ? "no" : optarg ?: "yes"
			};
	}
	for (; optind < argc; optind++)
		complain_stray(p, argv[optind]);
	return NULL;
}

/* The last of several is the one that counts, as with all flags. */
static const struct flag *find_given(const struct parser *p, enum opt_type type)
{
	for (size_t i = p->n_flags; i-- > 0;)
		if (p->flags[i].opt->type == type)
			return &p->flags[i];
	return NULL;
}

/* ---- what is printed ---- */

enum { HELP_COLUMN = 30, HELP_WIDTH = 79 };

/* Prints @text in words from @column on, over as many lines as it takes. */
static size_t print_wrapped(const char *text, size_t column)
{
	while (*text) {
		size_t n = strcspn(text, " ");

		if (column + 1 + n > HELP_WIDTH) {
			printf("\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
		} else if (column > HELP_COLUMN) {
			putchar(' ');
			column++;
		}
		printf("%.*s", (int)n, text);
		column += n;
		text += n + strspn(text + n, " ");
	}
	return column;
}

static void print_option(const struct opt *opt)
{
	char left[64], initial[64] = "";
	size_t n;

	snprintf(left, sizeof left, "  %c%c%s --%s%s%s%s", opt->letter ? '-' : ' ',
		 opt->letter ? opt->letter : ' ', opt->letter ? "," : " ",
		 opt->type == OPT_BOOL && opt->initial ? "[no-]" : "", opt->name,
		 opt->value ? "=" : "", opt->value ? opt->value : "");
	n = strlen(left);
	printf("%s%*s", left, n < HELP_COLUMN - 1 ? (int)(HELP_COLUMN - n) : 0, "");
	if (n >= HELP_COLUMN - 1)
		printf("\n%*s", HELP_COLUMN, "");
	n = print_wrapped(opt->help, HELP_COLUMN);
	if (opt->initial) {
		snprintf(initial, sizeof initial, "[%s]", *opt->initial ? opt->initial : "none");
		print_wrapped(initial, n);
	}
	putchar('\n');
}

static void print_help(void)
{
	puts("Usage: synfind [FLAG]...\n"
	     "       synfind --read=FILE [FLAG]...\n"
	     "Watch TCP connections and publish each step of their lives as a line of JSON.\n"
	     "\n"
	     "Defaults are in [brackets]. SIZE: a number, with K, M or G if wanted. TIME: a\n"
	     "number with ns, us, ms, s, min, h or d. What is set here wins over the file.");
	for (int s = 0; s < N_SECTION; s++) {
		printf("\n%s\n", sections[s].title);
		for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
			if ((int)opt->section == s)
				print_option(opt);
	}
	puts("\nRead events:  socat -u UNIX-CONNECT:/run/synfind/events.sock -\n"
	     "synfind(8) tells more.");
}

static void print_sizes(const struct parser *p)
{
	const struct options *o = &p->o;

	printf("configuration OK\n"
	       "file:        %s\n"
	       "interfaces: ",
	       p->path ? p->path : "none");
	for (char **i = o->interfaces; *i; i++)
		printf(" %s", *i);
	printf("\nring:        %s per interface, %llu blocks of %s\n"
	       "connections: %u at most, and %u half-open ones\n"
	       "event ring:  %u events per decoder\n"
	       "queue:       %s, one for all of the %u subscribers at most\n",
	       number_text(OPT_SIZE, o->ring_size_bytes).s,
	       (unsigned long long)(o->ring_size_bytes / o->ring_block_size_bytes),
	       number_text(OPT_SIZE, o->ring_block_size_bytes).s, o->max_connections,
	       o->max_half_open, o->event_ring_size,
	       number_text(OPT_SIZE, o->queue_size_bytes).s, o->max_subscribers);
}

/* 1, or -EINVAL if what was printed did not arrive (a full disk). */
static int printed(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 1;
	log_errno(errno, "Cannot write to standard output");
	return -EINVAL;
}

/* ---- all together ---- */

static void set_defaults(struct parser *p)
{
	char msg[MESSAGE_MAX];

	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		if (opt->initial && set_value(opt, opt->initial, &p->o, msg) < 0)
			complain_at(p, opt, msg);
}

/* What depends on more than one option. */
static void check_together(struct parser *p)
{
	struct options *o = &p->o;
	const struct opt *ring = find_option("ring-size"), *block = find_option("ring-block-size");
	char msg[MESSAGE_MAX];

	/* The kernel fills one block while another is read. */
	if (o->ring_size_bytes % o->ring_block_size_bytes ||
	    o->ring_size_bytes < 2 * o->ring_block_size_bytes) {
		snprintf(msg, sizeof msg,
			 "a ring of %s in blocks of %s; ring-size must be a multiple of "
			 "ring-block-size, two blocks at least",
			 number_text(OPT_SIZE, o->ring_size_bytes).s,
			 number_text(OPT_SIZE, o->ring_block_size_bytes).s);
		complain_at(p, p->set_by[ring - opts] == BY_DEFAULT ? block : ring, msg);
	}
	if (o->quiet && !o->read_file)
		complain_at(p, find_option("quiet"), "only together with --read");
	if (o->read_file && p->set_by[find_option("interface") - opts] == BY_FLAG)
		log_warn("--interface: without effect, since --read is given");
}

int options_parse(int argc, char **argv, struct options *ret)
{
	AUTO(parser_done) struct parser p = { .flags = calloc((size_t)argc + 1, sizeof *p.flags) };
	const struct flag *config;
	const struct opt *answer;

	if (!p.flags) {
		log_error("out of memory");
		return -EINVAL;
	}
	set_defaults(&p);
	answer = read_flags(&p, argc, argv);
	if (answer) {
		if (answer->type == OPT_HELP)
			print_help();
		else
			puts("synfind " SYNFIND_VERSION);
		return printed();
	}
	config = find_given(&p, OPT_CONFIG);
	read_config(&p, config ? config->value : DEFAULT_CONFIG, config);
	for (size_t i = 0; i < p.n_flags; i++)
		apply(&p, p.flags[i].opt, p.flags[i].value, BY_FLAG);
	if (!p.errors)
		check_together(&p);
	if (p.errors > ERRORS_SHOWN)
		log_error("%u errors more", p.errors - ERRORS_SHOWN);
	if (p.errors)
		return -EINVAL;
	if (find_given(&p, OPT_CHECK)) {
		print_sizes(&p);
		return printed();
	}
	*ret = p.o;
	p.o = (struct options){ 0 };
	return 0;
}

/* Octets of a value in struct options, of those that are no pointers. */
static size_t value_size(enum opt_type type)
{
	switch (type) {
	case OPT_BOOL:
		return sizeof(bool);
	case OPT_SIZE:
	case OPT_TIME:
		return sizeof(uint64_t);
	default:
		return sizeof(unsigned);
	}
}

int options_keep_fixed(struct options *fresh, const struct options *running)
{
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		void *to = field(fresh, opt);
		const void *from = (const char *)running + opt->offset;

		if (opt->live || opt->type > OPT_STRING)
			continue;
		if (opt->type == OPT_STRING) {
			char **mine = to, *kept = *(char *const *)from;

			if (!strcmp(*mine ?: "", kept ?: ""))
				continue;
			kept = kept ? strdup(kept) : NULL;
			if (!kept && *(char *const *)from)
				return -ENOMEM;
			free(*mine);
			*mine = kept;
		} else {
			if (!memcmp(to, from, value_size(opt->type)))
				continue;
			memcpy(to, from, value_size(opt->type));
		}
		log_warn("%s: a new value counts from the next start on", opt->name);
	}
	return 0;
}

unsigned options_inside(const struct options *o)
{
	return (o->decap ? INSIDE_TUNNELS : 0u) | (o->icmp ? INSIDE_ICMP : 0u);
}

void options_free(struct options *o)
{
	if (!o)
		return;
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		if (opt->type == OPT_STRING)
			free(*(char **)field(o, opt));
		else if (opt->type == OPT_LIST)
			list_free(*(char ***)field(o, opt));
	*o = (struct options){ 0 };
}
