#include "common/opttable.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "common/options.h"
#include "flow/tracker.h"  /* ANOMALIES_TOLD_MAX */
#include "source/afring.h" /* AFRING_GROUP_MAX */

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define MS  UINT64_C(1000000)
#define SEC (1000 * MS)
#define MIN (60 * SEC)
#define DAY (24 * 60 * MIN)

/* ---- the table ---- */

const struct opt_section opt_sections[N_SECTION] = {
	[CAPTURE] = { "capture", "What is watched, and how:" },
	[TRACKING] = { "tracking", "How much is remembered, and for how long:" },
	[EVENTS] = { "events", "Where events go, and what is in them:" },
	[DAEMON] = { "daemon", "The daemon itself:" },
	[FLAGS_ONLY] = { NULL, "This run (flags only, not for the configuration file):" },
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
#define USERS(field)              ROW(OPT_USERS, field##_users, struct id_list, 0, 0)
#define GROUPS(field)             ROW(OPT_GROUPS, field##_groups, struct id_list, 0, 0)
#define ANSWER(kind)              .type = kind, .max = 0
#define TIMEOUT(name, field, initial, help) \
	{ "timeout-" name, TRACKING, TIME(timeout_##field, MS, 365 * DAY), initial, "TIME", help, \
	  .unit = SEC, .live = true }

const struct opt opts[] = {
	{ "interface", CAPTURE, LIST(interfaces), "auto", "NAME[,NAME]",
	  "Interfaces to watch, by name or pattern (veth*); auto: those that carry a default "
	  "route, and loopback; any: all. Can be given several times.", .letter = 'i', .live = true },
	{ "ring-size", CAPTURE, SIZE(ring_size, MIB, 4 * GIB), "64M", "SIZE",
	  "Capture ring of each decoder; at least two blocks.", .ring = true },
	{ "ring-block-size", CAPTURE, SIZE(ring_block_size, 128 * KIB, 64 * MIB), "128K", "SIZE",
	  "Block of that ring; a power of two.", .power_of_two = true, .ring = true },
	{ "block-timeout", CAPTURE, TIME(block_timeout, MS, SEC), "2ms", "TIME",
	  "A block is handed over after this time even if it is not full.", .unit = MS,
	  .ring = true },
	{ "mode", CAPTURE, WORD(mode, enum capture_mode), "all", "all|control|auto",
	  "Segments that are taken in; control: only those with SYN, FIN or RST, which costs little and "
	  "leaves counts and some states unknown; auto: all but those of long transfers that the "
	  "kernel can count as well, which needs CAP_BPF." },
	{ "auto-after", CAPTURE, NUMBER(auto_after, 1, 1000000000), "64", "N",
	  "With mode=auto: segments of either side after which the kernel counts." },
	{ "promiscuous", CAPTURE, BOOL(promiscuous), "no", NULL,
	  "Also take in frames that are meant for other hosts.", .ring = true },
	{ "decap", CAPTURE, BOOL(decap), "no", NULL,
	  "Also follow TCP in tunnels: VXLAN, Geneve, GRE, ERSPAN, IP in IP, GTP-U.", .ring = true },
	{ "icmp", CAPTURE, BOOL(icmp), "no", NULL,
	  "Also look at ICMP errors: a SYN that could not be delivered has failed.",
	  .ring = true },
	{ "decoders", CAPTURE, NUMBER(decoders, 1, AFRING_GROUP_MAX), "1", "N",
	  "Decoder threads of each interface, which share its connections; without effect on "
	  "--read." },
	{ "pin-decoders", CAPTURE, STRING(pin_decoders, 0, 255), "", "auto|CPUS",
	  "Processors that decoder threads stay on, one each in turn: a list such as 0-3,8; auto: "
	  "those that the daemon may use; empty: not pinned." },

	{ "max-connections", TRACKING, NUMBER(max_connections, 1024, 268435456), "1048576", "N",
	  "Connections of an interface remembered at once; each takes about 125 octets of memory.",
	  .live = true },
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
	  NUMBER(anomalies_per_connection, 0, ANOMALIES_REPORTED_MAX), "8", "N",
	  "Anomalies of one connection that are told one by one; more are only counted.", .live = true },
	{ "anomalies-per-second", TRACKING, NUMBER(anomalies_per_second, 0, 1000000), "100", "N",
	  "Anomalies told in one second by one decoder, all its connections together.", .live = true },
	{ "syn-flood-half-open", TRACKING, NUMBER(syn_flood_half_open, 0, 67108864), "1024", "N",
	  "A server with more half-open connections is under a SYN flood, if also the next holds: it has a "
	  "series of events of its own, in place of two for each SYN; 0: none ever.", .live = true },
	{ "syn-flood-rate", TRACKING, NUMBER(syn_flood_rate, 1, 1000000000), "200", "N",
	  "So many new ones in a second do not become connections, nor does a quarter of them all.",
	  .live = true },
	{ "syn-flood-interval", TRACKING, TIME(syn_flood_interval, SEC, DAY), "10s", "TIME",
	  "Time between two events of the series.", .unit = SEC, .live = true },

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
	{ "max-subscribers-per-uid", EVENTS, NUMBER(max_subscribers_per_uid, 1, 65536), "64", "N",
	  "Subscribers at once of one user, root included.", .live = true },
	{ "allow-user", EVENTS, USERS(allow), "", "USER[,USER]",
	  "Users that may subscribe, by name or number; none, nor an allow-group: everybody who may open "
	  "the socket.", .live = true },
	{ "allow-group", EVENTS, GROUPS(allow), "", "GROUP[,GROUP]",
	  "Groups whose members may subscribe.", .live = true },
	{ "pseudonymize-user", EVENTS, USERS(pseudonymize), "", "USER[,USER]",
	  "Users that may subscribe, but see pseudonyms of addresses; those that are allowed by name "
	  "see addresses.", .live = true },
	{ "pseudonymize-group", EVENTS, GROUPS(pseudonymize), "", "GROUP[,GROUP]",
	  "Groups whose members may do that.", .live = true },
	{ "pseudonym-key-file", EVENTS, STRING(pseudonym_key_file, 0, PATH_MAX - 1), "", "FILE",
	  "32 secret octets that the pseudonyms follow from; empty: random ones." },
	{ "queue-size", EVENTS, SIZE(queue_size, 64 * KIB, 4 * GIB), "16M", "SIZE",
	  "Newest lines that are kept, once for all subscribers: who falls further "
	  "behind loses events." },
	{ "stats-interval", EVENTS, TIME(stats_interval, SEC, DAY), "60s", "TIME",
	  "Time between two stats events; 0: none.", .unit = SEC, .zero = true, .live = true },
	{ "community-id", EVENTS, WORD(community_id, enum community_policy), "open-close",
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

_Static_assert(ARRAY_SIZE(opts) == N_OPT, "opttable.h says how many there are");

static void *field(struct options *o, const struct opt *opt)
{
	return (char *)o + opt->offset;
}

bool opt_takes_value(const struct opt *opt)
{
	return opt->type <= OPT_CONFIG && opt->type != OPT_BOOL;
}

const struct opt *opt_find(const char *name)
{
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		if (!strcmp(opt->name, name))
			return opt;
	return NULL;
}

/* ---- from numbers to text ---- */

struct number_text opt_number_text(enum opt_type type, uint64_t v)
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

struct quoted opt_quoted(const char *text)
{
	struct quoted q;

	if ((size_t)snprintf(q.s, sizeof q.s, "'%s'", text) >= sizeof q.s) {
		char *cut = q.s + sizeof q.s - sizeof "...'";

		while ((*cut & 0xc0) == 0x80 && cut > q.s + 1) /* not within a UTF-8 sequence */
			cut--;
		strcpy(cut, "...'");
	}
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
static void say_allowed(const struct opt *opt, char msg[static OPT_MESSAGE_MAX])
{
	size_t n = strlen(msg);

	snprintf(msg + n, OPT_MESSAGE_MAX - n, "; allowed: %s%s to %s", opt->zero ? "0, " : "",
		 opt_number_text(opt->type, opt->min).s, opt_number_text(opt->type, opt->max).s);
}

static int set_number(const struct opt *opt, const char *text, struct options *o,
		      char reterr[static OPT_MESSAGE_MAX])
{
	uint64_t v;
	int r = parse_number(opt, text, &v);

	if (r == -EINVAL && opt->type == OPT_TIME)
		snprintf(reterr, OPT_MESSAGE_MAX,
			 "%s is not a duration (a whole number and ns, us, ms, s, min, h or d; "
			 "without a unit: %s)",
			 opt_quoted(text).s, opt->unit == MS ? "ms" : "s");
	else if (r == -EINVAL)
		snprintf(reterr, OPT_MESSAGE_MAX, "%s is not %s", opt_quoted(text).s,
			 opt->type == OPT_SIZE ? "a size (a whole number, with K, M or G if wanted)"
			 : opt->type == OPT_MODE ? "an octal mode"
						 : "a whole number");
	else if (r < 0 || v > opt->max || (v < opt->min && !(opt->zero && v == 0)))
		snprintf(reterr, OPT_MESSAGE_MAX, "%s is out of range", opt_quoted(text).s);
	else if (opt->power_of_two && (v & (v - 1)))
		snprintf(reterr, OPT_MESSAGE_MAX, "%s is not a power of two", opt_quoted(text).s);
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
		    char reterr[static OPT_MESSAGE_MAX])
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
	snprintf(reterr, OPT_MESSAGE_MAX,
		 "%s is neither yes nor no; allowed: yes, no, true, false, on, off, 1, 0",
		 opt_quoted(text).s);
	return -EINVAL;
}

/* The words stand in the order of the enum. */
static int set_word(const struct opt *opt, const char *text, struct options *o,
		    char reterr[static OPT_MESSAGE_MAX])
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
	snprintf(reterr, OPT_MESSAGE_MAX, "%s is none of the words allowed: %s", opt_quoted(text).s,
		 opt->value);
	return -EINVAL;
}

static int set_string(const struct opt *opt, const char *text, struct options *o,
		      char reterr[static OPT_MESSAGE_MAX])
{
	char **s = field(o, opt);
	size_t n = strlen(text);
	char *copy = NULL;

	if (n < opt->min) {
		snprintf(reterr, OPT_MESSAGE_MAX, "must not be empty");
		return -EINVAL;
	}
	if (n > opt->max) {
		snprintf(reterr, OPT_MESSAGE_MAX, "%s is too long: %zu octets; allowed: up to %llu",
			 opt_quoted(text).s, n, (unsigned long long)opt->max);
		return -EINVAL;
	}
	if (n && !(copy = strdup(text))) {
		snprintf(reterr, OPT_MESSAGE_MAX, "out of memory");
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
		    char reterr[static OPT_MESSAGE_MAX])
{
	for (const char *s = text;; s++) {
		size_t len;

		s += strspn(s, " \t");
		len = strcspn(s, ",");
		size_t n = len;

		while (n && isspace((unsigned char)s[n - 1]))
			n--;
		if (!valid_interface(s, n)) {
			snprintf(reterr, OPT_MESSAGE_MAX,
				 "%s: an interface name has 1 to 15 characters (a pattern 64), no "
				 "spaces, '/' or ':'; names are divided by commas",
				 opt_quoted(text).s);
			return -EINVAL;
		}
		if (list_append(field(o, opt), s, n) < 0) {
			snprintf(reterr, OPT_MESSAGE_MAX, "out of memory");
			return -ENOMEM;
		}
		s += len;
		if (!*s)
			return 0;
	}
}

/* The number of the user or group that @name is, or says in digits.  0 or -ENOENT. */
static int find_id(const struct opt *opt, const char *name, uint32_t *ret)
{
	const char *rest = name;
	uint64_t v = 0;
	int r = parse_digits(name, 10, &rest, &v);

	if (r != -EINVAL && !*rest) {
		*ret = (uint32_t)v;
		return r < 0 || v >= UINT32_MAX ? -ENOENT : 0; /* (uid_t)-1 is nobody's */
	}
	const struct passwd *user = opt->type == OPT_USERS ? getpwnam(name) : NULL;
	const struct group *group = opt->type == OPT_GROUPS ? getgrnam(name) : NULL;

	if (!user && !group)
		return -ENOENT;
	*ret = user ? user->pw_uid : group->gr_gid;
	return 0;
}

static int ids_append(struct id_list *list, uint32_t id)
{
	uint32_t *grown;

	for (size_t i = 0; i < list->n; i++)
		if (list->ids[i] == id)
			return 0;
	grown = realloc(list->ids, (list->n + 1) * sizeof *grown);
	if (!grown)
		return -ENOMEM;
	list->ids = grown;
	grown[list->n++] = id;
	return 0;
}

static int set_ids(const struct opt *opt, const char *text, struct options *o,
		   char reterr[static OPT_MESSAGE_MAX])
{
	for (const char *s = text; *text; s++) { /* an empty one is an empty list */
		char name[256];			 /* longer than any that useradd(8) takes */
		uint32_t id;
		size_t len, n;
		int r;

		s += strspn(s, " \t");
		n = len = strcspn(s, ",");
		while (n && isspace((unsigned char)s[n - 1]))
			n--;
		snprintf(name, sizeof name, "%.*s", (int)n, s);
		r = n < sizeof name ? find_id(opt, name, &id) : -ENOENT;
		if (r >= 0)
			r = ids_append(field(o, opt), id);
		if (r == -ENOMEM) {
			snprintf(reterr, OPT_MESSAGE_MAX, "out of memory");
			return r;
		}
		if (r < 0) {
			snprintf(reterr, OPT_MESSAGE_MAX,
				 "%s is no %s that there is; allowed: names, or numbers up to %u, "
				 "divided by commas",
				 opt_quoted(name).s, opt->type == OPT_USERS ? "user" : "group",
				 UINT32_MAX - 1);
			return -EINVAL;
		}
		s += len;
		if (!*s)
			break;
	}
	return 0;
}

int opt_set(const struct opt *opt, const char *text, struct options *o,
	    char reterr[static OPT_MESSAGE_MAX])
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
	case OPT_USERS:
	case OPT_GROUPS:
		return set_ids(opt, text, o, reterr);
	case OPT_NUMBER:
	case OPT_SIZE:
	case OPT_TIME:
	case OPT_MODE:
		return set_number(opt, text, o, reterr);
	default:
		return 0;
	}
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

int opt_keep(const struct opt *opt, struct options *fresh, const struct options *running)
{
	void *to = (char *)fresh + opt->offset;
	const void *from = (const char *)running + opt->offset;

	if (opt->type == OPT_STRING) {
		char **mine = to, *kept = *(char *const *)from;

		if (!strcmp(*mine ?: "", kept ?: ""))
			return 0;
		kept = kept ? strdup(kept) : NULL;
		if (!kept && *(char *const *)from)
			return -ENOMEM;
		free(*mine);
		*mine = kept;
		return 1;
	}
	if (!memcmp(to, from, value_size(opt->type)))
		return 0;
	memcpy(to, from, value_size(opt->type));
	return 1;
}

void opt_clear(const struct opt *opt, struct options *o)
{
	if (opt->type == OPT_STRING) {
		free(*(char **)field(o, opt));
		*(char **)field(o, opt) = NULL;
	} else if (opt->type == OPT_LIST) {
		list_free(*(char ***)field(o, opt));
		*(char ***)field(o, opt) = NULL;
	} else if (opt->type == OPT_USERS || opt->type == OPT_GROUPS) {
		struct id_list *list = field(o, opt);

		free(list->ids);
		*list = (struct id_list){ 0 };
	}
}
