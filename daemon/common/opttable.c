#include "common/opttable.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "base/guess.h"
#include "common/capfilter.h" /* CAPFILTER_TEXT_MAX */
#include "common/options.h"
#include "flow/tracker.h" /* ANOMALIES_REPORTED_MAX */
#include "format/json.h"
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
	[CAPTURE] = { "capture", "What is captured, and how:" },
	[TRACKING] = { "tracking", "How many connections are tracked, and for how long:" },
	[EVENTS] = { "events", "Where events go, and what they contain:" },
	[DAEMON] = { "daemon", "The daemon itself:" },
	[FLAGS_ONLY] = { NULL, "This run (flags only, not for the configuration file):" },
};

/* clang-format off */
/* A wrong type does not compile: _Generic selects nothing.  (`enum e:` can begin a definition.) */
#define ROW(kind, field, ctype, least, most, first, name) \
	.type = kind, .octets = sizeof(ctype), .min = least, .max = most, .initial = first, \
	.offset = _Generic(((struct options *)0)->field, \
			   typeof(ctype): offsetof(struct options, field)), \
	.value = name
#define BOOL(field, initial)              ROW(OPT_BOOL, field, bool, 0, 1, initial, NULL)
#define NUMBER(field, min, max, initial)  ROW(OPT_NUMBER, field, unsigned, min, max, initial, "N")
#define SIZE(field, min, max, initial) \
	ROW(OPT_SIZE, field##_bytes, uint64_t, min, max, initial, "SIZE")
#define TIME(field, min, max, initial, plain) \
	.unit = plain, ROW(OPT_TIME, field##_ns, uint64_t, min, max, initial, "TIME")
#define TIMES(field, least, most, first, plain) \
	.unit = plain, .octets = sizeof(((struct options *)0)->field##_ns), \
	.offset = offsetof(struct options, field##_ns), .type = OPT_TIMES, \
	.min = least, .max = most, .initial = first, .value = "TIME[,TIME]"
#define MODE(field, initial)              ROW(OPT_MODE, field, mode_t, 0, 0777, initial, "MODE")
#define WORD(field, ctype, initial, words) ROW(OPT_WORD, field, ctype, 0, 0, initial, words)
#define STRING(field, min, max, initial, name) \
	ROW(OPT_STRING, field, char *, min, max, initial, name)
#define LIST(field, initial, name) \
	ROW(OPT_LIST, field, struct name_list, 0, 0, initial, name)
#define FILES(field, name) \
	ROW(OPT_FILES, field, struct name_list, 1, PATH_MAX - 1, NULL, name)
#define KINDS(field, initial) \
	ROW(OPT_KINDS, field, uint32_t, 0, 0, initial, "KIND[,KIND]")
#define USERS(field)   ROW(OPT_USERS, field##_users, struct id_list, 0, 0, "", "USER[,USER]")
#define GROUPS(field)  ROW(OPT_GROUPS, field##_groups, struct id_list, 0, 0, "", "GROUP[,GROUP]")
#define ANSWER(kind, name)                .type = kind, .value = name
#define TIMEOUT(name, field, initial, help) \
	{ "timeout-" name, TRACKING, LIVE, \
	  TIME(timeout_##field, MS, 365 * DAY, initial, SEC), help }

const struct opt opts[] = {
	{ "interface", CAPTURE, LIVE, LIST(interfaces, "auto", "NAME[,NAME]"),
	  "Capture on these interfaces: names, patterns (veth*), auto (those with a default route, "
	  "and loopback) or any (all). With a pattern or any, all interfaces share one ring. Can "
	  "be given several times.", .letter = 'i' },
	{ "ring-size", CAPTURE, RINGS, SIZE(ring_size, MIB, 4 * GIB, "64M"),
	  "Size of the capture ring of each decoder, at least two blocks. Raise it if capture_loss "
	  "events appear." },
	{ "ring-block-size", CAPTURE, RINGS, SIZE(ring_block_size, 128 * KIB, 64 * MIB, "128K"),
	  "Size of a block of that ring, a power of two. With smaller blocks the ring lasts longer "
	  "while the daemon restarts.", .power_of_two = true },
	{ "block-timeout", CAPTURE, RINGS, TIME(block_timeout, MS, SEC, "2ms", MS),
	  "Pass a block on after this time even if it is not full. Lower it for earlier events, "
	  "raise it for fewer wake-ups." },
	{ "mode", CAPTURE, AT_START, WORD(mode, enum capture_mode, "all", "all|control|auto"),
	  "Which segments to capture. all: every one. control: only SYN, FIN and RST; costs "
	  "little, but counts and some states are unknown. auto: the kernel counts long transfers; "
	  "same events, needs CAP_BPF." },
	{ "auto-after", CAPTURE, AT_START, NUMBER(auto_after, 1, 1000000000, "64"),
	  "With mode=auto: the kernel counts a connection after this many segments of either side. "
	  "Raise it if most connections are short." },
	{ "promiscuous", CAPTURE, RINGS, BOOL(promiscuous, "no"),
	  "Also capture frames to other hosts. For a mirror port." },
	{ "decap", CAPTURE, RINGS, BOOL(decap, "no"),
	  "Also track TCP in tunnels: VXLAN, Geneve, GRE, ERSPAN, IP in IP, GTP-U. The kernel then "
	  "copies 256 octets of each tunnel packet." },
	{ "icmp", CAPTURE, RINGS, BOOL(icmp, "yes"),
	  "Also read ICMP errors: an error that quotes a SYN closes the connection at once, as "
	  "unreachable. By default not with mode=auto or several decoders." },
	{ "dedupe", CAPTURE, AT_START, WORD(dedupe, enum dedupe, "auto", "auto|yes|no"),
	  "Report a connection once even if several interfaces of a ring show it (veth, bridge, "
	  "uplink), and count the other segments as duplicates. auto: where interfaces share a "
	  "ring, not with --read. Interfaces with rings of their own, as with mode=auto, always "
	  "report it each." },
	{ "filter", CAPTURE, RINGS, STRING(filter, 0, CAPFILTER_TEXT_MAX, "", "EXPRESSION"),
	  "Capture only frames that match, in tcpdump's language (pcap-filter(7)): 'port 443 and "
	  "not host 192.0.2.1'. VLAN tags are ignored unless it says vlan." },
	{ "decoders", CAPTURE, AT_START, NUMBER(decoders, 1, AFRING_GROUP_MAX, "1"),
	  "Decoder threads of each interface, which share its connections. Raise it if one thread "
	  "takes a whole processor. Not for --read." },
	{ "pin-decoders", CAPTURE, AT_START, STRING(pin_decoders, 0, 255, "", "auto|CPUS"),
	  "Keep each decoder thread on one processor, in turn: a list such as 0-3,8, or auto "
	  "(those that the daemon may use). Empty: do not pin." },

	{ "max-connections", TRACKING, LIVE, NUMBER(max_connections, 1024, 268435456, "1048576"),
	  "Track at most this many connections of an interface; each takes about 125 octets of "
	  "memory. Raise it if connections close with reason evicted." },
	{ "max-half-open", TRACKING, LIVE, NUMBER(max_half_open, 256, 67108864, "65536"),
	  "Track at most this many half-open connections in addition. Their table is separate, so "
	  "that a SYN flood evicts no others." },
	TIMEOUT("syn-sent", syn_sent, "70s", "Forget a SYN without an answer."),
	TIMEOUT("syn-received", syn_received, "70s", "Forget an incomplete handshake."),
	TIMEOUT("established", established, "24h",
	  "Forget a silent open connection. Lower it to save memory."),
	TIMEOUT("half-closed", half_closed, "24h",
	  "Forget a silent connection that one side has closed. Lower it to save memory."),
	TIMEOUT("closing", closing, "10min", "Forget a connection whose FIN is not acknowledged."),
	TIMEOUT("time-wait", time_wait, "60s",
	  "Remember a closed connection, so that late segments do not open a new one."),
	TIMEOUT("reset", reset, "10s", "Remember a reset connection, for the same reason."),
	{ "stuck-after", TRACKING, LIVE, TIMES(stuck_after, SEC, 365 * DAY, "1min,10min,1h", SEC),
	  "Report a connection that one side has closed, and in which nothing moves, after each of "
	  "these times: up to three. 0: never.", .zero = true },
	{ "anomalies-per-connection", TRACKING, LIVE,
	  NUMBER(anomalies_per_connection, 0, ANOMALIES_REPORTED_MAX, "8"),
	  "Report this many anomalies of a connection; only count the others." },
	{ "anomalies-per-second", TRACKING, LIVE, NUMBER(anomalies_per_second, 0, 1000000, "100"),
	  "Report this many anomalies of each decoder per second; only count the others." },
	{ "syn-flood-half-open", TRACKING, LIVE, NUMBER(syn_flood_half_open, 0, 67108864, "1024"),
	  "Report a SYN flood if a server has more half-open connections and syn-flood-rate is "
	  "reached: a few syn_flood events in place of two events per SYN. 0: never." },
	{ "syn-flood-rate", TRACKING, LIVE, NUMBER(syn_flood_rate, 1, 1000000000, "200"),
	  "Report a flood only if at least N attempts per second, and at least a quarter of all "
	  "attempts, fail to complete." },
	{ "syn-flood-interval", TRACKING, LIVE, TIME(syn_flood_interval, SEC, DAY, "10s", SEC),
	  "Time between two events of the same flood." },

	{ "events", EVENTS, LIVE, KINDS(events, "all"),
	  "Produce only events of these kinds, by their event_type: tcp_close, stats, ... Use it "
	  "if no program reads the others: they cost CPU and space. Losses are always reported. "
	  "With --read also tcp_segment, a line for each segment." },
	/* 107: what fits into sun_path (unix(7)) */
	{ "socket", EVENTS, AT_START, STRING(socket, 0, 107, "/run/synfind/events.sock", "PATH"),
	  "Unix socket for subscribers. Empty: none." },
	{ "socket-mode", EVENTS, AT_START, MODE(socket_mode, "0660"),
	  "Permissions of the socket, octal." },
	{ "socket-group", EVENTS, AT_START, STRING(socket_group, 0, 32, "", "GROUP"),
	  "Group of the socket; its members can subscribe. Empty: the group of the daemon." },
	{ "control-socket", EVENTS, AT_START,
	  STRING(control_socket, 0, 107, "auto", "PATH|auto|off"),
	  "Unix socket for questions about the daemon, in Varlink, with the permissions of the "
	  "events socket. auto: control.sock beside an events.sock. off: none." },
	{ "stdout", EVENTS, AT_START, BOOL(to_stdout, "no"),
	  "Also print events on standard output." },
	{ "max-subscribers", EVENTS, LIVE, NUMBER(max_subscribers, 1, 65536, "256"),
	  "Accept at most this many subscribers at once." },
	{ "max-subscribers-per-uid", EVENTS, LIVE, NUMBER(max_subscribers_per_uid, 1, 65536, "64"),
	  "Accept at most this many subscribers of one user, root included." },
	{ "allow-user", EVENTS, LIVE, USERS(allow),
	  "These users may subscribe, by name or number. If this and allow-group are empty, "
	  "everyone who can open the socket may." },
	{ "allow-group", EVENTS, LIVE, GROUPS(allow), "Members of these groups may subscribe." },
	{ "pseudonymize-user", EVENTS, LIVE, USERS(pseudonymize),
	  "These users may subscribe, but see pseudonyms in place of addresses. allow-user and "
	  "allow-group take precedence." },
	{ "pseudonymize-group", EVENTS, LIVE, GROUPS(pseudonymize),
	  "The same for members of these groups." },
	{ "pseudonym-key-file", EVENTS, AT_START,
	  STRING(pseudonym_key_file, 0, PATH_MAX - 1, "", "FILE"),
	  "File with the secret key of the pseudonyms, 32 octets. Set it to keep the same "
	  "pseudonyms after a reboot. Empty: a random key." },
	{ "queue-size", EVENTS, AT_START, SIZE(queue_size, 64 * KIB, 4 * GIB, "16M"),
	  "Keep this much of the newest lines, once for all subscribers. Raise it if subscribers "
	  "get lost events." },
	{ "stats-interval", EVENTS, LIVE, TIME(stats_interval, SEC, DAY, "60s", SEC),
	  "Time between two stats events. 0: none.", .zero = true },
	{ "community-id", EVENTS, LIVE,
	  WORD(community_id, enum community_policy, "open-close", "open-close|all|off"),
	  "Which events carry a community_id; open-close: tcp_open, tcp_close and snapshot." },
	{ "community-id-seed", EVENTS, LIVE, NUMBER(community_id_seed, 0, 65535, "0"),
	  "Seed of the community_id. Set the same one in all your tools." },

	{ "event-ring-size", DAEMON, AT_START, NUMBER(event_ring_size, 1024, 16777216, "65536"),
	  "Events between a decoder and the publisher, a power of two. Raise it if lost events "
	  "have reason ring.", .power_of_two = true },
	{ "log-level", DAEMON, LIVE, WORD(log_level, enum log_level, "info", "err|warn|info|debug"),
	  "Log messages of this level and above on standard error." },
	{ "opener", DAEMON, AT_START, STRING(opener, 0, 107, "", "PATH"),
	  "Socket of a synfind-opener. Empty: start one as a child." },

	{ "read", FLAGS_ONLY, AT_START, FILES(read_files, "FILE"),
	  "Read this pcap or pcapng file in place of capturing, and print events on standard "
	  "output. It may be packed by gzip, xz or zstd; -: standard input. Several files are "
	  "read in turn, as one capture.", .letter = 'r' },
	{ "quiet", FLAGS_ONLY, AT_START, BOOL(quiet, NULL),
	  "With --read: print only the summary. With --check-config: only what is wrong." },
	{ "config", FLAGS_ONLY, AT_START, ANSWER(OPT_CONFIG, "FILE"),
	  "Configuration file. Without this flag: " DEFAULT_CONFIG ", if it exists." },
	{ "check-config", FLAGS_ONLY, AT_START, ANSWER(OPT_CHECK, NULL),
	  "Check file and flags, print which interfaces exist and how much memory it takes, and "
	  "exit. With --opener, interfaces are not checked." },
	{ "help", FLAGS_ONLY, AT_START, ANSWER(OPT_HELP, NULL),
	  "Print this and exit.", .letter = 'h' },
	{ "version", FLAGS_ONLY, AT_START, ANSWER(OPT_VERSION, NULL),
	  "Print the version and exit.", .letter = 'V' },
};

static const struct unit {
	const char *name;
	uint64_t factor;
} size_units[] = { { "G", GIB }, { "M", MIB }, { "K", KIB }, { "", 1 }, { 0 } },
  time_units[] = { { "d", DAY }, { "h", 60 * MIN }, { "min", MIN }, { "s", SEC },
		   { "ms", MS }, { "us", MS / 1000 }, { "ns", 1 }, { 0 } };
/* clang-format on */

_Static_assert(ARRAY_SIZE(opts) == N_OPT, "opttable.h has the number of rows");

static void *field(struct options *o, const struct opt *opt)
{
	return (char *)o + opt->offset;
}

const struct opt *opt_find(const char *name)
{
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		if (!strcmp(opt->name, name))
			return opt;
	return NULL;
}

/* ---- from numbers to text ---- */

static const struct unit *units_of(enum opt_type type)
{
	bool time = type == OPT_TIME || type == OPT_TIMES;

	return type == OPT_SIZE ? size_units : time ? time_units : size_units + 3;
}

struct number_text opt_number_text(enum opt_type type, uint64_t v)
{
	const struct unit *u = units_of(type);
	const char *fmt = type == OPT_MODE ? "%04llo%s" : "%llu%s";
	struct number_text t;

	if (u == time_units && !v)
		u += 3;
	while (u->factor > 1 && (v % u->factor || (!v && type == OPT_SIZE)))
		u++;
	snprintf(t.s, sizeof t.s, fmt, (unsigned long long)(v / u->factor), u->name);
	return t;
}

/* The @i-th of words divided by '|'. */
static void value_word(const char *words, uint64_t i, char *ret, size_t size)
{
	while (i--)
		words = strchr(words, '|') + 1;
	snprintf(ret, size, "%.*s", (int)strcspn(words, "|"), words);
}

/* Item @i of a set of kinds; false: there are no more. */
static bool kind_item(uint32_t set, size_t i, char *ret, size_t size)
{
	bool all = (set & LINES_ALL) == LINES_ALL;

	if (all && i-- == 0)
		return (size_t)snprintf(ret, size, "all") < size;
	if (all)
		set &= ~LINES_ALL;
	for (unsigned k = 0; k < LINE_KINDS; k++)
		if (set & 1u << k && i-- == 0)
			return (size_t)snprintf(ret, size, "%s", line_kind_name(k)) < size;
	return false;
}

/* Number @i of a list; false: there are no more. */
static bool value_item(const struct opt *opt, const void *at, size_t i, char *ret, size_t size)
{
	const struct name_list *names = at;
	const struct id_list *ids = at;
	const uint64_t *times = at;

	if (opt->type == OPT_KINDS)
		return kind_item(*(const uint32_t *)at, i, ret, size);
	if (opt->type == OPT_TIMES) {
		if (i >= opt->octets / sizeof *times || (i && !times[i]))
			return false;
		snprintf(ret, size, "%s", opt_number_text(opt->type, times[i]).s);
	} else if (opt->type == OPT_USERS || opt->type == OPT_GROUPS) {
		if (i >= ids->n)
			return false;
		snprintf(ret, size, "%u", ids->ids[i]);
	} else {
		if (i >= names->n)
			return false;
		snprintf(ret, size, "%s", names->names[i]);
	}
	return true;
}

static uint64_t value_number(const struct opt *opt, const void *at)
{
	if (opt->octets == sizeof(bool))
		return *(const bool *)at;
	return opt->octets == sizeof(uint64_t) ? *(const uint64_t *)at : *(const unsigned *)at;
}

bool opt_value_text(const struct opt *opt, const struct options *o, char *ret, size_t size)
{
	const void *at = (const char *)o + opt->offset;
	char item[PATH_MAX + 1];
	size_t n = 0;

	*ret = '\0';
	if (opt->type == OPT_BOOL || opt->type == OPT_WORD) {
		value_word(opt->type == OPT_BOOL ? "no|yes" : opt->value, value_number(opt, at),
			   ret, size);
	} else if (opt->type == OPT_STRING) {
		return (size_t)snprintf(ret, size, "%s", *(char *const *)at ?: "") < size;
	} else if (opt->type == OPT_TIMES || opt_is_list(opt)) {
		item[0] = ',';
		for (size_t i = 0; value_item(opt, at, i, item + 1, sizeof item - 1); i++) {
			const char *text = item + !i;

			if (n + strlen(text) >= size)
				return false;
			n += (size_t)sprintf(ret + n, "%s", text);
		}
	} else {
		snprintf(ret, size, "%s", opt_number_text(opt->type, value_number(opt, at)).s);
	}
	return true;
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

/* Writes the cause to @msg, of OPT_MESSAGE_MAX octets.  Returns -EINVAL. */
__attribute__((format(printf, 2, 3))) static int refuse(char *msg, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, OPT_MESSAGE_MAX, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Digits of @base, at least one: 0; -EINVAL: there are none; -ERANGE: too many. */
static int parse_digits(const char *s, int base, char **ret_rest, uint64_t *ret)
{
	if (*s < '0' || *s >= '0' + base)
		return -EINVAL;
	errno = 0;
	*ret = strtoull(s, ret_rest, base);
	return -errno;
}

/* The number that @text is for @opt; the range is not checked.  0, -EINVAL, -ERANGE. */
static int parse_number(const struct opt *opt, const char *text, uint64_t *ret)
{
	const struct unit *u = units_of(opt->type);
	char *rest;
	int r = parse_digits(text, opt->type == OPT_MODE ? 8 : 10, &rest, ret);

	if (r == -EINVAL)
		return r;
	while (u->name && (opt->type == OPT_SIZE ? strcasecmp : strcmp)(rest, u->name))
		u++;
	if (!u->name && *rest)
		return -EINVAL;
	return r < 0 || __builtin_mul_overflow(*ret, u->name ? u->factor : opt->unit, ret) ? -ERANGE
											   : 0;
}

static void store(const struct opt *opt, struct options *o, uint64_t v)
{
	if (opt->octets == sizeof(bool))
		*(bool *)field(o, opt) = v;
	else if (opt->octets == sizeof(uint64_t))
		*(uint64_t *)field(o, opt) = v;
	else /* mode_t, and GCC's type of an enum, as well */
		*(unsigned *)field(o, opt) = (unsigned)v;
}

/* The number that @text is for @opt.  0 or -EINVAL. */
static int number_in_range(const struct opt *opt, const char *text, uint64_t *ret, char *reterr)
{
	static const char *const wrong[] = {
		[OPT_NUMBER] = "is not a whole number",
		[OPT_SIZE] = "is not a size (a whole number, with K, M or G if wanted)",
		[OPT_TIME... OPT_TIMES] =
			"is not a duration (a whole number with ns, us, ms, s, min, h or d)",
		[OPT_MODE] = "is not an octal mode",
	};
	const char *why = NULL;
	int r = parse_number(opt, text, ret);
	uint64_t v = r < 0 ? 0 : *ret;

	if (r == -EINVAL)
		why = wrong[opt->type];
	else if (r < 0 || v > opt->max || (v < opt->min && !(opt->zero && v == 0)))
		why = "is out of range";
	else if (opt->power_of_two && (v & (v - 1)))
		why = "is not a power of two";
	if (why)
		return refuse(reterr, "%s %s; allowed: %s%s to %s", opt_quoted(text).s, why,
			      opt->zero ? "0, " : "", opt_number_text(opt->type, opt->min).s,
			      opt_number_text(opt->type, opt->max).s);
	return 0;
}

static int set_number(const struct opt *opt, const char *text, struct options *o, char *reterr)
{
	uint64_t v;
	int r = number_in_range(opt, text, &v, reterr);

	if (r == 0)
		store(opt, o, v);
	return r;
}

enum { ITEM_MAX = 256 }; /* longer than any name */

/* The first item of a list divided by commas, without blanks around it.  *text: what follows its
 * comma, or NULL.  0 or -EINVAL. */
static int next_item(const char **text, char item[static ITEM_MAX], char *reterr)
{
	const char *from = *text + strspn(*text, " \t"), *end = strchrnul(from, ',');
	int n = (int)(end - from);

	while (n && isspace((unsigned char)from[n - 1]))
		n--;
	*text = *end ? end + 1 : NULL;
	if (snprintf(item, ITEM_MAX, "%.*s", n, from) >= ITEM_MAX)
		return refuse(reterr, "%s is too long", opt_quoted(item).s);
	return 0;
}

static int set_times(const struct opt *opt, const char *text, struct options *o, char *reterr)
{
	uint64_t v[8] = { 0 };
	char item[ITEM_MAX];
	unsigned most = opt->octets / sizeof *v, n = 0;
	int r = 0;

	while (text && r == 0 && n < most) {
		r = next_item(&text, item, reterr) ?: number_in_range(opt, item, &v[n], reterr);
		if (r == 0 && n && v[n] <= v[n - 1])
			return refuse(reterr, "%s is not more than the time before it",
				      opt_quoted(item).s);
		n++;
	}
	if (r == 0 && text)
		return refuse(reterr, "too many times; allowed: up to %u", most);
	if (r == 0)
		memcpy(field(o, opt), v, opt->octets);
	return r;
}

/* The words are in the order of the enum; those of a bool mean no and yes in turn. */
static int set_word(const struct opt *opt, const char *text, struct options *o, char *reterr)
{
	bool truth = opt->type == OPT_BOOL;
	const char *word = truth ? "no|yes|false|true|off|on|0|1" : opt->value, *end;

	for (unsigned i = 0;; i++, word = end + 1) {
		end = strchrnul(word, '|');
		if (!strncmp(word, text, (size_t)(end - word)) && !text[end - word]) {
			store(opt, o, truth ? i & 1 : i);
			return 0;
		}
		if (!*end)
			break;
	}
	return refuse(reterr, "%s is %s; allowed: %s", opt_quoted(text).s,
		      truth ? "neither yes nor no" : "not a known word",
		      truth ? "yes, no, true, false, on, off, 1, 0" : opt->value);
}

static int check_length(const struct opt *opt, const char *text, char *reterr)
{
	size_t n = strlen(text);

	if (n < opt->min)
		return refuse(reterr, "must not be empty");
	if (n > opt->max)
		return refuse(reterr, "%s is too long: %zu octets; allowed: up to %llu",
			      opt_quoted(text).s, n, (unsigned long long)opt->max);
	return 0;
}

static int set_string(const struct opt *opt, const char *text, struct options *o, char *reterr)
{
	char *copy = NULL;
	int r = check_length(opt, text, reterr);

	if (r < 0)
		return r;
	if (*text && !(copy = strdup(text)))
		return -ENOMEM;
	opt_clear(opt, o);
	*(char **)field(o, opt) = copy;
	return 0;
}

/* A name that the kernel accepts (dev_valid_name() in net/core/dev.c); or a pattern, which may be
 * longer: veth[0-9][0-9]* */
static bool valid_interface(const char *s)
{
	size_t n = strlen(s);

	return n >= 1 && n <= (strpbrk(s, "*?[") ? 64 : 15) && strcmp(s, ".") && strcmp(s, "..") &&
	       !strpbrk(s, " \t\n\v\f\r/:");
}

static int add_name(struct name_list *list, const char *name)
{
	char **grown = realloc(list->names, (list->n + 2) * sizeof *grown);

	if (!grown)
		return -ENOMEM;
	list->names = grown;
	grown[list->n + 1] = NULL;

	int *lines = realloc(list->lines, (list->n + 1) * sizeof *lines);

	if (!lines)
		return -ENOMEM;
	list->lines = lines;
	lines[list->n] = 0;
	grown[list->n] = strdup(name);
	return grown[list->n] && ++list->n ? 0 : -ENOMEM;
}

/* The id of the user or group @name, which may be a number.  0 or -EINVAL. */
static int find_id(const struct opt *opt, const char *name, uint32_t *ret)
{
	char *rest;
	uint64_t v;
	int r = parse_digits(name, 10, &rest, &v);

	if (r != -EINVAL && !*rest) {
		*ret = (uint32_t)v;
		return r < 0 || v >= UINT32_MAX ? -EINVAL : 0; /* (uid_t)-1 is not an id */
	}
	const struct passwd *user = opt->type == OPT_USERS ? getpwnam(name) : NULL;
	const struct group *group = opt->type == OPT_GROUPS ? getgrnam(name) : NULL;

	if (!user && !group)
		return -EINVAL;
	*ret = user ? user->pw_uid : group->gr_gid;
	return 0;
}

/* Adds an id, unless it is in the list. */
static int add_id(struct id_list *list, uint32_t id)
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

/* Adds a kind of line, or "all", to a set. */
static int add_kind(uint32_t *set, const char *name, char *reterr)
{
	struct guess g = GUESS_NONE;
	char allowed[OPT_MESSAGE_MAX] = "all";

	for (unsigned k = 0; k < LINE_KINDS; k++) {
		const char *word = line_kind_name(k);
		size_t n = strlen(allowed);

		if (!((LINES_ALL | 1u << EVENT_TCP_SEGMENT) & 1u << k))
			continue;
		if (!strcmp(word, name)) {
			*set |= LINES_ALWAYS | 1u << k;
			return 0;
		}
		guess_offer(&g, name, "'", word, "'");
		if (!(LINES_ALWAYS & 1u << k))
			snprintf(allowed + n, sizeof allowed - n, ", %s", word);
	}
	if (!strcmp(name, "all")) {
		*set |= LINES_ALL;
		return 0;
	}
	return refuse(reterr, "%s is not a kind of event%s; allowed: %s", opt_quoted(name).s,
		      g.text, allowed);
}

static int set_item(const struct opt *opt, const char *item, struct options *o, char *reterr)
{
	uint32_t id;

	if (opt->type == OPT_KINDS)
		return add_kind(field(o, opt), item, reterr);
	if (opt->type != OPT_LIST)
		return find_id(opt, item, &id) == 0
			       ? add_id(field(o, opt), id)
			       : refuse(reterr,
					"%s is not a %s; allowed: names, or numbers up to %u, "
					"divided by commas",
					opt_quoted(item).s,
					opt->type == OPT_GROUPS ? "group" : "user", UINT32_MAX - 1);
	return valid_interface(item)
		       ? add_name(field(o, opt), item)
		       : refuse(reterr,
				"%s: an interface name has 1 to 15 characters (a pattern 64), no "
				"spaces, '/' or ':'; names are divided by commas",
				opt_quoted(item).s);
}

static int set_list(const struct opt *opt, const char *text, struct options *o, char *reterr)
{
	int r = 0;

	if (!*text && opt->type > OPT_KINDS)
		return 0; /* an empty list */
	while (text && r == 0) {
		char item[ITEM_MAX];

		r = next_item(&text, item, reterr) ?: set_item(opt, item, o, reterr);
	}
	return r;
}

int opt_set(const struct opt *opt, const char *text, struct options *o,
	    char reterr[static OPT_MESSAGE_MAX])
{
	int r;

	if (opt->type == OPT_TIMES)
		r = set_times(opt, text, o, reterr);
	else if (opt->type <= OPT_MODE)
		r = set_number(opt, text, o, reterr);
	else if (opt->type <= OPT_WORD)
		r = set_word(opt, text, o, reterr);
	else if (opt->type == OPT_STRING)
		r = set_string(opt, text, o, reterr);
	else if (opt->type == OPT_FILES)
		r = check_length(opt, text, reterr) ?: add_name(field(o, opt), text);
	else
		r = set_list(opt, text, o, reterr);
	if (r == -ENOMEM)
		refuse(reterr, "out of memory");
	return r;
}

int opt_keep(const struct opt *opt, struct options *fresh, const struct options *running)
{
	void *to = field(fresh, opt);
	const void *from = (const char *)running + opt->offset;

	if (opt->type == OPT_STRING) {
		char **mine = to, *kept = *(char *const *)from;

		if (!strcmp(*mine ?: "", kept ?: ""))
			return 0;
		if (kept && !(kept = strdup(kept)))
			return -ENOMEM;
		free(*mine);
		*mine = kept;
		return 1;
	}
	if (!memcmp(to, from, opt->octets))
		return 0;
	memcpy(to, from, opt->octets);
	return 1;
}

void opt_clear(const struct opt *opt, struct options *o)
{
	void *at = field(o, opt);

	if (opt->type == OPT_LIST || opt->type == OPT_FILES) {
		struct name_list *list = at;

		for (size_t i = 0; i < list->n; i++)
			free(list->names[i]);
		free(list->lines);
	}
	if (opt->type < OPT_STRING || opt->type > OPT_GROUPS)
		return;
	if (opt->type != OPT_KINDS)
		free(*(void **)at); /* also the names and ids, which come first in their lists */
	memset(at, 0, opt->octets);
}
