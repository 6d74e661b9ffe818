/* Options: every row of the table, by file and by flag; every way to get them wrong. */
#include "../../daemon/common/capfilter.c"
#include "../../daemon/common/cpulist.c"
#include "../../daemon/common/log.c"
#include "../../daemon/common/opttable.c"
#include "../../daemon/common/options.c"
#include <fcntl.h>
#include <time.h>
#include <sys/mman.h>
#include "tests/support/tap.h"

/* ---- one run of options_parse(), with what it wrote ---- */

static struct options o;
static char out[1 << 16], err[1 << 16];
static char conf_path[32];

static void read_back(int fd, char *buf, size_t size)
{
	ssize_t n = pread(fd, buf, size - 1, 0);

	buf[n > 0 ? n : 0] = '\0';
	close(fd);
}

/* Flags in @argv up to NULL; @o, `out` and `err` hold the outcome. */
static int run_argv(char **argv)
{
	int saved[] = { dup(STDOUT_FILENO), dup(STDERR_FILENO) };
	int to[] = { memfd_create("out", 0), memfd_create("err", 0) };
	int argc = 0, r;

	while (argv[argc])
		argc++;
	options_free(&o);
	fflush(stdout);
	dup2(to[0], STDOUT_FILENO);
	dup2(to[1], STDERR_FILENO);
	r = options_parse(argc, argv, &o);
	dup2(saved[0], STDOUT_FILENO);
	dup2(saved[1], STDERR_FILENO);
	close(saved[0]);
	close(saved[1]);
	read_back(to[0], out, sizeof out);
	read_back(to[1], err, sizeof err);
	return r;
}

#define run(...) run_argv((char *[]){ "synfind", __VA_ARGS__, NULL })

/* --config of a file with these octets, and one more flag or none. */
static int run_octets(const void *octets, size_t n, char *flag)
{
	char config[64];
	FILE *f = fopen(conf_path, "w");

	if (!f || fwrite(octets, 1, n, f) != n || fclose(f))
		abort();
	snprintf(config, sizeof config, "--config=%s", conf_path);
	return run(config, flag);
}

static int run_file(const char *text)
{
	return run_octets(text, strlen(text), NULL);
}

/* Was @msg told of @line of the file? */
static bool reported(int line, const char *msg)
{
	char want[512];

	snprintf(want, sizeof want, "synfind: error: %s:%d: %s", conf_path, line, msg);
	if (strstr(err, want))
		return true;
	printf("# expected: %s\n# got: %s", want, err);
	return false;
}

static bool told_flag(const char *msg)
{
	char want[512];

	snprintf(want, sizeof want, "synfind: error: %s", msg);
	if (strstr(err, want))
		return true;
	printf("# expected: %s\n# got: %s", want, err);
	return false;
}

static unsigned count_lines(const char *s)
{
	unsigned n = 0;

	for (; (s = strchr(s, '\n')); s++)
		n++;
	return n;
}

/* ---- the whole table ---- */

/* What the field holds, as a number; strings and lists are not asked. */
static uint64_t field_number(const struct opt *opt)
{
	const void *p = field(&o, opt);

	switch (opt->type) {
	case OPT_BOOL:
		return *(const bool *)p;
	case OPT_SIZE:
	case OPT_TIME:
		return *(const uint64_t *)p;
	default:
		return *(const unsigned *)p;
	}
}

/* The run options_parse() makes of "@opt = @text", from the file or as a flag, with a ring that
 * fits any size of block and blocks that fit any size of ring. */
static int run_one(const struct opt *opt, const char *text, bool by_flag)
{
	char line[512];

	if (by_flag) {
		snprintf(line, sizeof line, "--%s=%s", opt->name, text);
		return run("--config=/dev/null",
			   strcmp(opt->name, "ring-size") ? "--ring-size=4G"
							  : "--ring-block-size=128K",
			   line);
	}
	snprintf(line, sizeof line, "%s\n%s = %s\n",
		 strcmp(opt->name, "ring-size") ? "ring-size=4G" : "ring-block-size=128K",
		 opt->name, text);
	return run_file(line);
}

static bool good(const struct opt *opt, const char *text, uint64_t want)
{
	for (int by_flag = 0; by_flag < 2; by_flag++)
		if (run_one(opt, text, by_flag) != 0 || *err || field_number(opt) != want) {
			printf("# %s = '%s' by %s: %llu, %s\n", opt->name, text,
			       by_flag ? "flag" : "file", (unsigned long long)field_number(opt),
			       err);
			return false;
		}
	return true;
}

/* Refused by file and by flag, told with place, name, value and @why. */
static bool bad(const struct opt *opt, const char *text, const char *why)
{
	char msg[256];

	snprintf(msg, sizeof msg, "%s: '%s' %s", opt->name, text, why);
	if (run_one(opt, text, false) != -EINVAL || !reported(2, msg))
		return false;
	snprintf(msg, sizeof msg, "--%s: '%s' %s", opt->name, text, why);
	return run_one(opt, text, true) == -EINVAL && told_flag(msg) && strstr(err, "allowed: ");
}

static bool times_are(const struct opt *opt, const char *text, const uint64_t want[static 3])
{
	bool same = run_one(opt, text, false) == 0 && !memcmp(field(&o, opt), want, 24);

	return same && run_one(opt, text, true) == 0 && !memcmp(field(&o, opt), want, 24);
}

static void check_times(const struct opt *opt)
{
	ok(times_are(opt, "1, 2min ,3h", (uint64_t[]){ SEC, 120 * SEC, 10800 * SEC }),
	   "%s takes three times", opt->name);
	ok(times_are(opt, "1s", (uint64_t[3]){ SEC }), "or one");
	ok(times_are(opt, "0", (uint64_t[3]){ 0 }), "or none");
	ok(bad(opt, "1ms", "is out of range") && bad(opt, "366d", "is out of range"),
	   "each within its range");
	ok(bad(opt, "x", "is not a duration"), "and a duration");
	ok(run_one(opt, "2s,1s", false) == -EINVAL &&
		   reported(2, "stuck-after: '1s' is not more than the time before it"),
	   "each more than the one before");
	ok(run_one(opt, "1s,2s,3s,4s", false) == -EINVAL &&
		   reported(2, "stuck-after: too many times; allowed: up to 3"),
	   "not four");
	ok(run_one(opt, "1s,,2s", false) == -EINVAL && run_one(opt, "1s,", false) == -EINVAL &&
		   run_one(opt, "", false) == -EINVAL,
	   "nor none where a comma says one");
}

static void check_number(const struct opt *opt)
{
	const char *unit = opt->type == OPT_TIME ? "ns" : "";
	const char *fmt = opt->type == OPT_MODE ? "%llo%s" : "%llu%s";
	char text[64];

	snprintf(text, sizeof text, fmt, (unsigned long long)opt->min, unit);
	ok(good(opt, text, opt->min), "%s takes its minimum, %s", opt->name, text);
	snprintf(text, sizeof text, fmt, (unsigned long long)opt->max, unit);
	ok(good(opt, text, opt->max), "%s takes its maximum, %s", opt->name, text);
	snprintf(text, sizeof text, fmt, (unsigned long long)opt->max + 1, unit);
	ok(bad(opt, text, "is out of range"), "%s refuses %s, one more", opt->name, text);
	if (opt->min) {
		snprintf(text, sizeof text, fmt, (unsigned long long)opt->min - 1, unit);
		ok(bad(opt, text, "is out of range"), "%s refuses %s, one less", opt->name, text);
		ok(opt->zero ? good(opt, "0", 0) : bad(opt, "0", "is out of range"), "%s %s 0",
		   opt->name, opt->zero ? "takes" : "refuses");
	}
	/* What would be in range again if it were taken modulo 2^64. */
	if (opt->type == OPT_MODE)
		snprintf(text, sizeof text, "2000000000000000000660");
	else
		snprintf(text, sizeof text, "18%018llu%s",
			 446744073709551616ull + (unsigned long long)opt->min, unit);
	ok(bad(opt, text, "is out of range"), "%s refuses %s, which wraps", opt->name, text);
	if (opt->type == OPT_SIZE || opt->type == OPT_TIME) {
		if (opt->type == OPT_SIZE)
			snprintf(text, sizeof text, "%lluM", (1ull << 44) + 1);
		else
			snprintf(text, sizeof text, "%llums",
				 (unsigned long long)(UINT64_MAX / MS + 2 + opt->min / MS));
		ok(bad(opt, text, "is out of range"), "%s refuses %s, whose product wraps",
		   opt->name, text);
	}
	if (opt->power_of_two) {
		snprintf(text, sizeof text, "%llu", (unsigned long long)opt->min + 1);
		ok(bad(opt, text, "is not a power of two"), "%s refuses %s", opt->name, text);
	}

	static const char *const malformed[] = { "",	 "x",	"-1",  "+1",	  "1x",	  "1.5",
						 "0x10", "1 0", "1e6", "1 000 k", "10Ms", "99KK" };
	bool all = true;

	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++)
		all = all && bad(opt, malformed[i], "is not a");
	ok(all, "%s refuses what is no number of its kind", opt->name);
}

static void check_bool(const struct opt *opt)
{
	char flag[64], no[64], separate[64];
	char *reading = !strcmp(opt->name, "quiet") ? "--read=x" : "--config=/dev/null";

	snprintf(flag, sizeof flag, "--%s", opt->name);
	snprintf(no, sizeof no, "--no-%s", opt->name);
	snprintf(separate, sizeof separate, "--%s=on", opt->name);
	ok(run(reading, flag) == 0 && field_number(opt) == 1, "%s is yes", flag);
	ok(run(reading, flag, no) == 0 && field_number(opt) == 0, "%s is no, and the last counts",
	   no);
	ok(run(reading, separate) == 0 && field_number(opt) == 1, "%s is yes", separate);
	snprintf(no, sizeof no, "--no-%s=1", opt->name);
	ok(run(reading, no) == -EINVAL && strstr(err, "takes no value"), "%s is refused", no);
	if (opt->section == FLAGS_ONLY)
		return;
	ok(good(opt, "yes", 1) && good(opt, "true", 1) && good(opt, "1", 1) && good(opt, "no", 0) &&
		   good(opt, "false", 0) && good(opt, "off", 0) && good(opt, "0", 0),
	   "%s takes every word for yes and no", opt->name);
	ok(bad(opt, "maybe", "is neither yes nor no") && bad(opt, "", "is neither") &&
		   bad(opt, "YES!", "is neither"),
	   "%s refuses others", opt->name);
}

static void check_word(const struct opt *opt)
{
	char words[64], *save = NULL;
	uint64_t i = 0;
	bool all = true;

	snprintf(words, sizeof words, "%s", opt->value);
	for (char *w = strtok_r(words, "|", &save); w; w = strtok_r(NULL, "|", &save))
		all = all && good(opt, w, i++);
	ok(all && i >= 2, "%s takes each of its %d words", opt->name, (int)i);
	ok(bad(opt, "loud", "is not a known word") && bad(opt, "", "is not a known word") &&
		   bad(opt, opt->value, "is not a known word") &&
		   bad(opt, "of", "is not a known word"),
	   "%s refuses others, and parts of them", opt->name);
}

static void check_string(const struct opt *opt)
{
	char text[PATH_MAX + 16], flag[PATH_MAX + 64];
	char **s = field(&o, opt);
	bool of_processors = !strcmp(opt->name, "pin-decoders");

	memset(text, of_processors ? '0' : 'x', sizeof text);
	text[opt->max] = '\0';
	snprintf(flag, sizeof flag, "--%s=%s", opt->name, text);
	ok(run("--config=/dev/null", flag) == 0 && *s && !strcmp(*s, text), "%s takes %d octets",
	   opt->name, (int)opt->max);
	snprintf(flag, sizeof flag, "--%s=%sx", opt->name, text);
	ok(run("--config=/dev/null", flag) == -EINVAL && strstr(err, "too long"),
	   "%s refuses one more", opt->name);
	snprintf(flag, sizeof flag, "--%s=", opt->name);
	ok(opt->min ? run("--config=/dev/null", flag) == -EINVAL && strstr(err, "must not be empty")
		    : run("--config=/dev/null", flag) == 0 && !*s,
	   "an empty %s is %s", opt->name, opt->min ? "refused" : "none");
	if (opt->section == FLAGS_ONLY || of_processors)
		return;
	snprintf(flag, sizeof flag, "%s = a b\xc3\xbc ; no more\n", opt->name);
	ok(run_file(flag) == 0 && *s && !strcmp(*s, "a b\xc3\xbc"),
	   "%s from the file keeps inner blanks and UTF-8", opt->name);
	snprintf(flag, sizeof flag, "%s =\n", opt->name);
	ok(run_file(flag) == 0 && !*s, "%s can be emptied in the file", opt->name);
}

static void check_filter_option(void)
{
	static char longest[CAPFILTER_TEXT_MAX + 32], too_long[CAPFILTER_TEXT_MAX + 32];
	const char *text = "port 443 and not (host ::1 or tcp[13] = 2)";
	char line[128];

	ok(run("--config=/dev/null", "--filter", "tcp port 443") == 0 &&
		   !strcmp(o.filter, "tcp port 443"),
	   "filter takes an expression");
	snprintf(line, sizeof line, "[capture]\nfilter = %s ; why\n", text);
	ok(run_file(line) == 0 && !strcmp(o.filter, text),
	   "the file's may contain '=', ':' and brackets");
	ok(run_file("filter =\n") == 0 && !o.filter, "it may be empty: there is none");
	ok(run_file("\nfilter = port 44x\n") == -EINVAL &&
		   reported(2, "filter: unknown port '44x'\n"),
	   "what libpcap says of it is told, with the place");
	ok(run("--config=/dev/null", "--filter=tcp and") == -EINVAL &&
		   told_flag("--filter: can't parse filter expression: syntax error\n"),
	   "a syntax error is told");
	ok(run("--config=/dev/null", "--filter=tcp", "--mode=auto") == 0 &&
		   !strcmp(o.filter, "tcp"),
	   "it goes with mode=auto");
	memset(longest, ' ', sizeof longest - 1);
	memcpy(longest, "--filter=tcp", 12);
	longest[9 + CAPFILTER_TEXT_MAX] = '\0';
	ok(run("--config=/dev/null", longest) == 0, "it takes %d octets", CAPFILTER_TEXT_MAX);
	snprintf(too_long, sizeof too_long, "%s ", longest);
	ok(run("--config=/dev/null", too_long) == -EINVAL &&
		   strstr(err, "is too long: 4097 octets"),
	   "and no more");
}

static void check_processors(void)
{
	static const char *const wrong[] = { "0,",
					     ",0",
					     "0--1",
					     "1-0",
					     "0,0",
					     "0-2,1",
					     "-1",
					     "a",
					     "0 ,1",
					     "1024",
					     "0-99999999999999999999",
					     "automatic" };
	struct cpulist l;
	bool all = true;

	ok(cpulist_parse("4,0-2,7", &l) == 0 && l.n == 5 && l.cpu[0] == 4 && l.cpu[1] == 0 &&
		   l.cpu[3] == 2 && l.cpu[4] == 7,
	   "a list of processors keeps its order");
	ok(cpulist_parse("auto", &l) == 0 && l.n > 0, "auto: those that there are");
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		char flag[64];

		snprintf(flag, sizeof flag, "--pin-decoders=%s", wrong[i]);
		all &= run("--config=/dev/null", flag) == -EINVAL &&
		       strstr(err, "is not a list of processors") && strstr(err, "0-3,8");
	}
	ok(all, "what is no list is refused, with an example");
}

static bool kinds_are(const char *text, uint32_t want)
{
	const struct opt *opt = opt_find("events");

	for (int by_flag = 0; by_flag < 2; by_flag++)
		if (run_one(opt, text, by_flag) != 0 || *err || o.events != want) {
			printf("# '%s': %x, not %x; %s\n", text, o.events, want, err);
			return false;
		}
	return true;
}

static void check_kinds(void)
{
	const struct opt *opt = opt_find("events");
	bool each = true;

	ok(run("--config=/dev/null") == 0 && o.events == LINES_ALL, "by default all events");
	for (unsigned k = 0; k < LINE_KINDS; k++)
		each = each && (!(LINES_ALL & 1u << k) ||
				kinds_are(line_kind_name(k), LINES_ALWAYS | 1u << k));
	ok(each, "each kind of event by itself, beside those that are always there");
	ok(kinds_are("tcp_close , stats", LINES_ALWAYS | 1 << EVENT_TCP_CLOSE | 1 << LINE_STATS) &&
		   kinds_are("all", LINES_ALL) && kinds_are("stats,all", LINES_ALL),
	   "several, and all");
	ok(run_file("events = tcp_close\nevents = tcp_retry\n") == 0 &&
		   o.events == (LINES_ALWAYS | 1 << EVENT_TCP_CLOSE | 1 << EVENT_TCP_RETRY),
	   "each line adds to the list");
	ok(run_octets("events=stats\n", 13, "--events=iface") == 0 &&
		   o.events == (LINES_ALWAYS | 1 << LINE_IFACE),
	   "a flag replaces the list of the file");
	ok(run("--config=/dev/null", "--events=tcp_closed") == -EINVAL &&
		   told_flag("--events: 'tcp_closed' is not a kind of event; did you mean "
			     "'tcp_close'?; allowed: all, tcp_open, tcp_state, tcp_established, "
			     "tcp_close, tcp_retry, tcp_stuck, tcp_anomaly, syn_flood, "
			     "tcp_segment, iface, stats\n"),
	   "a wrong name is told with the nearest one");
	ok(run("--config=/dev/null", "--events=tcp_segment,all", "--read=x") == 0 &&
		   o.events == (LINES_ALL | 1 << EVENT_TCP_SEGMENT),
	   "tcp_segment beside all, which does not have it, with --read");
	ok(run("--config=/dev/null", "--events=all,tcp_segment") == -EINVAL &&
		   told_flag("--events: tcp_segment only with --read; of live connections it comes "
			     "on request (synfind-requests(7))\n"),
	   "tcp_segment without --read is an error");
	ok(bad(opt, "close_tcp", "is not a kind of event; allowed: all, tcp_open") &&
		   bad(opt, "", "is not a kind of event") &&
		   run_one(opt, "stats,", true) == -EINVAL && run_one(opt, "no", true) == -EINVAL &&
		   run_one(opt, "TCP_CLOSE", true) == -EINVAL,
	   "so is what is near to none, and an empty one");
}

static void check_every_row(void)
{
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		switch (opt->type) {
		case OPT_BOOL:
			check_bool(opt);
			break;
		case OPT_WORD:
			check_word(opt);
			break;
		case OPT_STRING:
			if (strcmp(opt->name, "filter"))
				check_string(opt);
			break;
		case OPT_TIMES:
			check_times(opt);
			break;
		case OPT_NUMBER:
		case OPT_SIZE:
		case OPT_TIME:
		case OPT_MODE:
			check_number(opt);
			break;
		default:
			break;
		}
}

/* Two options on one field would overwrite each other. */
static void check_fields_apart(void)
{
	bool apart = true;

	for (const struct opt *a = opts; a < opts + N_OPT; a++)
		for (const struct opt *b = opts; b < a; b++)
			if (a->type < OPT_CONFIG && b->type < OPT_CONFIG)
				apart = apart && a->offset != b->offset && strcmp(a->name, b->name);
	ok(apart, "every option has a name and a field of its own");
}

/* ---- units, lists, precedence ---- */

static void check_defaults(void)
{
	ok(run("--config=/dev/null") == 0, "an empty file and no flags are fine");
	ok(o.interfaces.n == 1 && !strcmp(o.interfaces.names[0], "auto"), "interface: auto");
	ok(o.ring_size_bytes == 64 << 20 && o.ring_block_size_bytes == 128 << 10 &&
		   o.block_timeout_ns == 2000000 && !o.promiscuous,
	   "the defaults of [capture]");
	ok(o.max_connections == 1048576 && o.max_half_open == 65536 &&
		   o.anomalies_per_connection == 8 && o.anomalies_per_second == 100,
	   "the limits of [tracking]");
	ok(o.timeout_syn_sent_ns == 70 * SEC && o.timeout_syn_received_ns == 70 * SEC &&
		   o.timeout_established_ns == DAY && o.timeout_half_closed_ns == DAY &&
		   o.timeout_closing_ns == 600 * SEC && o.timeout_time_wait_ns == 60 * SEC &&
		   o.timeout_reset_ns == 10 * SEC,
	   "the timeouts of [tracking]");
	ok(!strcmp(o.socket, "/run/synfind/events.sock") && o.socket_mode == 0660 &&
		   !o.socket_group && !o.to_stdout && o.max_subscribers == 256 &&
		   o.max_subscribers_per_uid == 64 && !o.allow_users.n && !o.allow_groups.n &&
		   !o.pseudonymize_users.n && !o.pseudonymize_groups.n && !o.pseudonym_key_file &&
		   o.queue_size_bytes == 16 << 20 && o.stats_interval_ns == 60 * SEC &&
		   o.community_id == COMMUNITY_OPEN_CLOSE && o.community_id_seed == 0,
	   "the defaults of [events]");
	ok(o.event_ring_size == 65536 && o.log_level == LOG_LEVEL_INFO && !o.read_files.n &&
		   !o.quiet,
	   "the defaults of [daemon] and of the run");
}

static void check_units(void)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} times[] = { { "1d", DAY },	       { "2h", 120 * MIN }, { "3min", 3 * MIN },
		      { "4s", 4 * SEC },       { "5ms", 5 * MS },   { "6000us", 6 * MS },
		      { "7000000ns", 7 * MS }, { "8", 8 * SEC },    { "009s", 9 * SEC } };
	const struct opt *reset = opt_find("timeout-reset"), *queue = opt_find("queue-size");

	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		ok(good(reset, times[i].text, times[i].ns), "'%s' is a duration", times[i].text);
	ok(good(opt_find("block-timeout"), "20", 20 * MS), "block-timeout counts in ms");
	ok(bad(reset, "5m", "is not a duration") && bad(reset, "5 s", "is not a duration") &&
		   bad(reset, "5S", "is not a duration"),
	   "5m (months? minutes? metres?) is no duration");
	ok(good(queue, "1G", GIB) && good(queue, "2m", 2 * MIB) && good(queue, "64k", 64 * KIB) &&
		   good(queue, "70000", 70000),
	   "sizes in G, m, k and octets");
	ok(good(opt_find("socket-mode"), "0600", 0600) &&
		   good(opt_find("socket-mode"), "666", 0666) &&
		   bad(opt_find("socket-mode"), "0680", "is not an octal mode"),
	   "modes are octal, with or without a 0");
	ok(!strcmp(opt_number_text(OPT_SIZE, 65 * MIB).s, "65M") &&
		   !strcmp(opt_number_text(OPT_SIZE, 0).s, "0") &&
		   !strcmp(opt_number_text(OPT_TIME, 90 * SEC).s, "90s") &&
		   !strcmp(opt_number_text(OPT_TIME, DAY).s, "1d") &&
		   !strcmp(opt_number_text(OPT_TIME, 0).s, "0s"),
	   "numbers are shown in the largest unit that fits");
}

static bool interfaces_are(const char *want)
{
	char got[256] = "";

	for (char **i = o.interfaces.names; i && *i; i++)
		strcat(strcat(got, i == o.interfaces.names ? "" : " "), *i);
	if (strcmp(got, want))
		printf("# interfaces: '%s'\n", got);
	return !strcmp(got, want);
}

static bool reported_place(size_t i, int line)
{
	char want[PATH_MAX];

	snprintf(want, sizeof want, "%s:%d: interface", conf_path, line);
	return !strcmp(options_place(&o, i).s, want);
}

static void check_lists(void)
{
	ok(run_file("interface = eth0 , veth*,eth0\ninterface=lo\n") == 0 &&
		   interfaces_are("eth0 veth* lo"),
	   "a list goes over commas and lines, each name once");
	ok(run("--config=/dev/null", "-i", "a", "--interface=b,c", "--interface", "d", "-ie") ==
			   0 &&
		   interfaces_are("a b c d e"),
	   "and over flags of every form");
	static char many[80000 * 24];
	int n = 0;

	for (int i = 0; i < 80000; i++)
		n += sprintf(many + n, "interface = if%d\n", i % 79999);
	clock_t start = clock();

	ok(run_octets(many, (size_t)n, NULL) == 0 && o.interfaces.n == 79999 &&
		   !strcmp(o.interfaces.names[79998], "if79998") &&
		   clock() - start < CLOCKS_PER_SEC,
	   "80,000 lines of one list take less than a second");
	ok(run_octets("interface=a\n", 12, "--interface=b") == 0 && interfaces_are("b"),
	   "flags replace the file's list");
	static char *const bad_names[] = { "",	  ",",	  "a,",
					   "a b", "a/b",  "..",
					   "a:1", "a,,b", "sixteen-letters-" };
	for (size_t i = 0; i < ARRAY_SIZE(bad_names); i++)
		ok(run("--config=/dev/null", "-i", bad_names[i]) == -EINVAL &&
			   told_flag("--interface: '"),
		   "'%s' is no list of interfaces", bad_names[i]);
	ok(run("--config=/dev/null", "-i", "fifteen-letters,veth[0-9][0-9][0-9]*") == 0,
	   "15 characters are a name, a pattern may be longer");
}

static bool ids_are(const struct id_list *l, const char *want)
{
	char got[128] = "";

	for (size_t i = 0; i < l->n; i++)
		snprintf(got + strlen(got), sizeof got - strlen(got), "%s%u", i ? " " : "",
			 l->ids[i]);
	if (strcmp(got, want))
		printf("# ids: %s\n", got);
	return !strcmp(got, want);
}

static void check_ids(void)
{
	char longest[300] = "--allow-user=";

	ok(run_file("allow-user = root , 7,0\nallow-user=4294967294\n") == 0 &&
		   ids_are(&o.allow_users, "0 7 4294967294"),
	   "users: names and numbers, over commas and lines, each once");
	ok(run_file("allow-group = root,7\npseudonymize-group=8\npseudonymize-user=9\n") == 0 &&
		   ids_are(&o.allow_groups, "0 7") && ids_are(&o.pseudonymize_groups, "8") &&
		   ids_are(&o.pseudonymize_users, "9") && !o.allow_users.n,
	   "groups too, and each option has its own");
	ok(run_octets("allow-user=7\n", 13, "--allow-user=8") == 0 && ids_are(&o.allow_users, "8"),
	   "flags replace the file's list");
	ok(run_octets("allow-user=7\n", 13, "--allow-user=") == 0 && !o.allow_users.n,
	   "also by none");
	ok(run_file("\nallow-user = root,nobody-of-this-name\n") == -EINVAL &&
		   reported(2, "allow-user: 'nobody-of-this-name' is not a user; allowed: "),
	   "an unknown user is told by name and line");
	ok(run_file("\nallow-group = nobody-of-this-name\n") == -EINVAL &&
		   reported(2, "allow-group: 'nobody-of-this-name' is not a group; allowed: "),
	   "and an unknown group");
	memset(longest + strlen(longest), 'x', 280);
	static char *const bad_ids[] = {
		"--allow-user=,",	   "--allow-user=0,",
		"--allow-user=,0",	   "--allow-user=0,,1",
		"--allow-user=-1",	   "--allow-user=4294967295",
		"--allow-user=4294967296", "--allow-user=18446744073709551616",
		"--allow-user=0x0",	   "--allow-user=root root"
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad_ids); i++)
		ok(run("--config=/dev/null", bad_ids[i]) == -EINVAL && told_flag("--allow-user: '"),
		   "%s is refused", bad_ids[i]);
	ok(run("--config=/dev/null", longest) == -EINVAL && told_flag("--allow-user: 'xxx"),
	   "a name longer than any is refused");
}

static void check_precedence(void)
{
	ok(run_octets("max-connections=2000\nmax-half-open=3000\n", 40, "--max-half-open=4000") ==
			   0 &&
		   o.max_connections == 2000 && o.max_half_open == 4000 && o.max_subscribers == 256,
	   "defaults < file < flags");
	ok(run("--max-half-open=4000", "--config=/dev/null", "--max-half-open", "5000") == 0 &&
		   o.max_half_open == 5000,
	   "of two flags the last one counts, --name value works");
	ok(run_octets("max-half-open=1\n", 16, "--max-half-open=4000") == -EINVAL,
	   "a flag does not hide what is wrong in the file");
	ok(run("--config=/nonexistent/x") == -EINVAL &&
		   told_flag("--config: /nonexistent/x: cannot be opened: No such file"),
	   "a file that was asked for must be there");
	ok(run("--config=/") == -EINVAL && strstr(err, "Is a directory"), "and be a file");
	char letters[ERRORS_SHOWN + 2] = "-";

	memset(letters + 1, 'x', ERRORS_SHOWN);
	ok(run("--config=/", letters) == -EINVAL && count_lines(err) == ERRORS_SHOWN + 1 &&
		   strstr(err, "error: 1 more errors\n"),
	   "one that cannot be read is one error, told or counted as any other");

	/* What options_parse() does with the default path. */
	struct parser p = { .errors = 0 };
	char too_long[PATH_MAX + 2];
	int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);

	memset(too_long, 'x', sizeof too_long - 1);
	too_long[sizeof too_long - 1] = '\0';
	dup2(null, STDERR_FILENO);
	read_config(&p, "/nonexistent/x", false);
	read_config(&p, "/dev/null/x", false);
	ok(p.errors == 0 && !p.path, "the default file need not be there");
	read_config(&p, too_long, false);
	ok(p.errors == 1, "but every other reason not to open it is an error");
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(null);
}

static void check_together_rules(void)
{
	ok(run_file("ring-size = 3M\nring-block-size = 2M\n") == -EINVAL &&
		   reported(1, "ring-size: a ring of 3M in blocks of 2M"),
	   "a ring is whole blocks");
	ok(run_octets("ring-size = 2M\n", 15, "--ring-block-size=2M") == -EINVAL &&
		   reported(1, "ring-size: a ring of 2M in blocks of 2M"),
	   "two of them at least");
	ok(run("--config=/dev/null", "--ring-block-size=64M") == -EINVAL &&
		   told_flag("--ring-block-size: a ring of 64M"),
	   "the one that was given is the one that is blamed");
	ok(run("--config=/dev/null", "--quiet") == -EINVAL &&
		   told_flag("--quiet: only together with --read"),
	   "--quiet needs --read");
	ok(run("--config=/dev/null", "-r", "-", "--quiet") == 0 &&
		   !strcmp(o.read_files.names[0], "-") && o.quiet && !*err,
	   "--read takes '-'");
	ok(run("--config=/dev/null", "-r", "x", "--decoders=2") == -EINVAL &&
		   told_flag("--decoders: only for live capture, not with --read"),
	   "--decoders does not go with --read");
	ok(run("--config=/dev/null", "-r", "x", "--decoders=1") == -EINVAL, "whatever its value");
	ok(run_octets("decoders = 2\n", 13, "--read=x") == 0 && !*err && o.decoders == 2,
	   "in the file it is no matter");
	ok(run("--config=/dev/null") == 0 && o.icmp, "ICMP errors count by default");
	ok(run("--config=/dev/null", "--mode=auto") == 0 && !o.icmp &&
		   run("--config=/dev/null", "--decoders=2") == 0 && !o.icmp,
	   "but not where they need another decoder or CAP_BPF");
	ok(run("--config=/dev/null", "--decoders=2", "--icmp") == 0 && o.icmp,
	   "unless they are asked for");
	ok(run("--config=/dev/null", "--mode=auto", "--icmp") == -EINVAL &&
		   told_flag("--mode: auto cannot be combined with decap or icmp"),
	   "which mode=auto refuses");
	ok(run("--config=/dev/null", "-r", "x", "-i", "lo") == 0 && strstr(err, "warning: "),
	   "--interface beside --read is warned about");
}

/* ---- wrong files ---- */

static void check_all_errors_told(void)
{
	ok(run_file("max-conections = 5\n"
		    "[capture]\n"
		    "ring-size = 2M\n"
		    "[trakcing]\n"
		    "timeout-reset = 5s\n"
		    "[tracking]\n"
		    "ring-size = 4M\n"
		    "nonsense\n"
		    "= 5\n"
		    "timeout-reset = 6s\n"
		    "max-connections = 5\n"
		    "read = x\n"
		    "[capture] ring-size = 9\n"
		    "[capture\n"
		    "no-such-thing-at-all = 1\n"
		    "max_half_open: 300") == -EINVAL,
	   "a file full of errors is refused");
	ok(reported(1, "unknown option 'max-conections'; did you mean 'max-connections'?\n"),
	   "an unknown name gets the nearest one");
	ok(reported(4, "unknown section 'trakcing'; did you mean [tracking]?\n"),
	   "so does an unknown section");
	ok(reported(7, "'ring-size' belongs to section [capture], not [tracking]\n"),
	   "an option must stand in its section");
	ok(reported(8, "expected name = value\n") && reported(9, "expected name = value\n"),
	   "lines that are no assignment are told");
	ok(reported(10, "'timeout-reset' was already given in line 5\n"),
	   "a repeated option names both lines");
	ok(reported(11, "max-connections: '5' is out of range; allowed: 1024 to 268435456\n"),
	   "a value out of range tells the range");
	ok(reported(12, "'read' can only be given as a flag, --read\n"),
	   "flags are not for the file");
	ok(reported(13, "'[capture] ring-size = 9' is not a section"),
	   "what follows a section's ']' is not passed over");
	ok(reported(14, "'[capture' is not a section"), "nor is a section that does not end");
	ok(reported(15, "unknown option 'no-such-thing-at-all'\n"),
	   "nothing near, nothing offered");
	ok(reported(16, "unknown option 'max_half_open'; did you mean 'max-half-open'?\n"),
	   "the last line counts without its end");
	ok(count_lines(err) == 12, "each error is told once");
}

static void check_layout(void)
{
	ok(run_file("\xef\xbb\xbf[events]\r\n   max-subscribers = 7 ; of 9\r\n\r\n# x\r\n\t; y\r\n"
		    "[ capture ]\n") == -EINVAL &&
		   reported(6, "unknown section ' capture '") && count_lines(err) == 1,
	   "sections are spelled without blanks");
	ok(run_file("\xef\xbb\xbf[events]\r\n   max-subscribers = 7 ; of 9\r\n\r\n# x\r\n\t; y\r\n"
		    "[capture] ; z\npromiscuous:yes") == 0 &&
		   o.max_subscribers == 7 && o.promiscuous,
	   "byte order mark, CR LF, indents, comments, ':' and no last end of line are fine");
	ok(run_file("interface = a\n  promiscuous = yes\n") == 0 && o.promiscuous &&
		   interfaces_are("a"),
	   "an indented line is a line of its own, not more of the one before");
	ok(run_file("max-subscribers = 7 # of 9\n") == -EINVAL, "'#' begins no comment in a line");
}

static void check_hostile(void)
{
	enum { BIG = 10 << 20 };
	char *big = malloc(BIG), *config = "--config=/dev/zero";
	unsigned long long seed = tap_seed(1);
	char line[LINE_OCTETS + 100];
	bool bounded = true;

	if (!big)
		abort();
	for (size_t n = LINE_OCTETS - 10; n < LINE_OCTETS + 20; n++) {
		int r;

		snprintf(line, sizeof line, "socket-group=x;%*s\npromiscuous=yes\n", (int)n - 15,
			 "");
		memset(line + 15, 'y', n - 15);
		memcpy(line, "#ocket", 6);
		r = run_file(line);
		bounded =
			bounded && (n <= LINE_OCTETS ? r == 0 && o.promiscuous
						     : r == -EINVAL && reported(1, "the line has"));
	}
	ok(bounded, "%d octets are a line, one more is an error, even in a comment", LINE_OCTETS);

	/* A value cut short could still be a good one: it must not be. */
	memset(line, ' ', sizeof line);
	memcpy(line, "max-subscribers = 1", 19);
	strcpy(line + LINE_OCTETS + 12, "000\n");
	ok(run_file(line) == -EINVAL &&
		   reported(1, "the line has 4215 octets; allowed: up to 4200"),
	   "a long line is never cut and taken");

	memset(big, 'a', BIG);
	ok(run_octets(big, BIG, NULL) == -EINVAL && reported(1, "the line has 10485760 octets") &&
		   count_lines(err) == 1,
	   "a line of 10 MB is one error");
	memset(big, '\n', BIG);
	ok(run_octets(big, BIG, NULL) == 0, "ten million empty lines are fine");
	for (size_t i = 0; i < BIG / 2; i++)
		memcpy(big + 2 * i, "x\n", 2);
	ok(run_octets(big, BIG, NULL) == -EINVAL && count_lines(err) == ERRORS_SHOWN + 1 &&
		   strstr(err, "5242780 more errors"),
	   "five million errors: the first hundred, and how many more");
	ok(run(config) == -EINVAL && strstr(err, "not read any further"),
	   "an endless file comes to an end");
	ok(run_octets("promiscuous=yes\0no\n", 19, NULL) == -EINVAL &&
		   reported(1, "control character 0x00"),
	   "NUL is an error");
	ok(run_octets("promiscuous=yes\rno\n", 19, NULL) == -EINVAL &&
		   reported(1, "control character 0x0d"),
	   "so is CR within a line");

	srandom((unsigned)seed);
	bool refused = true;
	for (int round = 0; round < 200; round++) {
		static const char bits[][12] = { "[capture]", "interface",   "=",  "\n", "\r",
						 "max-",      "ring-size",   "1M", ";",	 "]",
						 "[",	      "\xef\xbb\xbf" };
		size_t n = 0, size = (size_t)random() % 4000;

		while (n < size)
			if (round & 1) {
				big[n++] = (char)random();
			} else {
				const char *bit = bits[(size_t)random() % ARRAY_SIZE(bits)];

				memcpy(big + n, bit, strlen(bit));
				n += strlen(bit);
			}
		int r = run_octets(big, n, NULL);
		refused = refused && (r == 0 ? !*err : r == -EINVAL && *err);
	}
	ok(refused, "noise is either fine or an error that is told");
	free(big);
}

/* ---- wrong flags, and those that are answered ---- */

static void check_flags(void)
{
	ok(run("--config=/dev/null", "--max-conections", "5", "--ring-siz=1", "-x",
	       "--no-promiscous") == -EINVAL &&
		   told_flag("--max-conections: unknown option; did you mean "
			     "'--max-connections'?\n") &&
		   told_flag("--ring-siz: unknown option; did you mean '--ring-size'?\n") &&
		   told_flag("-x: unknown option\n") &&
		   told_flag("--no-promiscous: unknown option; did you mean "
			     "'--no-promiscuous'?\n") &&
		   count_lines(err) == 4,
	   "unknown flags: all are told, with the nearest");
	ok(run("--config=/dev/null", "--port=80", "--host", "::1", "--verbose") == -EINVAL &&
		   told_flag("--port: unknown option; did you mean --filter='port 443'?\n") &&
		   told_flag("--host: unknown option; did you mean --filter='host 192.0.2.1'?\n") &&
		   told_flag("--verbose: unknown option; did you mean '--log-level=debug'?\n") &&
		   count_lines(err) == 3,
	   "flags of other tools point to what there is");
	ok(run("--max-connection=5000") == -EINVAL, "a flag is spelled in full, even if unique");
	ok(run("--config=/dev/null", "--read", "a.pcap", "b,c.pcap", "--quiet", "-rd.pcap",
	       "a.pcap") == 0 &&
		   o.read_files.n == 4 && !strcmp(o.read_files.names[1], "b,c.pcap") &&
		   !strcmp(o.read_files.names[3], "a.pcap"),
	   "files after --read are read too, each time they are named");
	ok(run("trace.pcap") == -EINVAL &&
		   told_flag("'trace.pcap': unexpected argument; did you mean --read="),
	   "stray arguments get a hint");
	ok(run("--config=/dev/null", "--", "x", "--stdout") == -EINVAL && count_lines(err) == 2,
	   "behind -- too");
	ok(run("--ring-size") == -EINVAL && told_flag("--ring-size: needs a value, --ring-size="),
	   "a missing value is told");
	ok(run("-i") == -EINVAL && told_flag("--interface: needs a value"), "of a letter too");
	ok(run("--help=1") == -EINVAL && told_flag("--help: takes no value"), "so is one too many");
	ok(run_argv((char *[]){ NULL }) == 0 || *err, "no argv[0] is survived");

	char value[3000];
	memset(value, 'x', sizeof value);
	memcpy(value, "--max-connections=", 18);
	value[sizeof value - 1] = '\0';
	ok(run(value) == -EINVAL && strstr(err, "allowed: 1024 to 268435456"),
	   "a long value does not push the range out of the message");
	memset(value + 2, 'x', sizeof value - 3);
	ok(run(value) == -EINVAL && told_flag("--xxxxx") && strstr(err, "xx...: unknown option\n"),
	   "nor a long flag its cause");
	memcpy(value, "--config=/", 10);
	ok(run(value) == -EINVAL && told_flag("--config: xxx") &&
		   strstr(err, "xx: cannot be opened: "),
	   "nor a long path");
	memcpy(value, "--max-connections=", 18);
	for (size_t i = 18; i < 100; i += 3)
		memcpy(value + i, "\xe2\x82\xac", 3);
	ok(run(value) == -EINVAL && !strstr(err, "\\x") && strstr(err, "\xe2\x82\xac...' is not"),
	   "a value is not cut within a character");
	memset(value + 18, 'n', 10);
	memcpy(value + 18, "1\n[2J\033", 6);
	ok(run(value) == -EINVAL && count_lines(err) == 1 && !strchr(err, '\033'),
	   "control characters of a value do not reach the terminal");
}

static void check_answers(void)
{
	ok(run("--version") == 1 && !strcmp(out, "synfind " SYNFIND_VERSION "\n") && !*err,
	   "--version");
	ok(run("-V") == 1 && !strncmp(out, "synfind ", 8), "-V");
	ok(run("-h") == 1 && !strncmp(out, "Usage: synfind", 14), "-h");
	ok(run("--config=/nonexistent", "--help") == 1 && !*err, "--help needs no file");

	bool width = true, all = true;
	for (char *s = out; *s; s += strcspn(s, "\n") + 1)
		width = width && strcspn(s, "\n") < 80;
	ok(width, "--help fits into 80 columns");
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		char name[64], initial[64];
		char *at, *next;

		snprintf(name, sizeof name, "--%s%s",
			 opt->type == OPT_BOOL && opt->initial ? "[no-]" : "", opt->name);
		snprintf(initial, sizeof initial, "[%s]",
			 opt->initial && *opt->initial ? opt->initial : "none");
		at = strstr(out, name);
		next = at ? strstr(at + 2, "  --") : NULL;
		if (next)
			*next = '\0';
		all = all && at && (!opt->initial || strstr(at, initial));
		if (next)
			*next = ' ';
	}
	ok(all, "--help has every option with its default");

	ok(run_octets("ring-size = 128M\n", 17, "--check-config") == 0 && o.check &&
		   !strcmp(o.file, conf_path) && !*out,
	   "--check-config is for the caller to answer");
	ok(run_octets("\ninterface = a,lo\ninterface=b,a\n", 32, "--quiet") == -EINVAL &&
		   run_octets("\ninterface = a,lo\ninterface=b,a\n", 32, "--icmp") == 0 &&
		   o.interfaces.n == 3 && reported_place(0, 2) && reported_place(1, 2) &&
		   reported_place(2, 3) && run("--config=/dev/null", "-i", "a") == 0 &&
		   !strcmp(options_place(&o, 0).s, "--interface"),
	   "the place of each interface is known");
	ok(run("--config=/dev/null", "--check-config", "--ring-size=5G") == -EINVAL && !*out,
	   "--check-config takes flags into account");
	ok(run("--help", "--bogus") == 1 && run("--bogus", "--help") == -EINVAL,
	   "--help does not hide an error before it");
}

static void check_ownership(void)
{
	struct options zero = { 0 }, syn = { .socket = strdup("x") }, before;

	options_free(NULL);
	options_free(&zero);
	options_free(&syn);
	ok(!syn.socket, "options_free() takes NULL, nothing and half of it");
	options_free(&o);
	memset(&o, 0x55, sizeof o);
	before = o;
	{
		char *argv[] = { "synfind", "--config=/dev/null", "--ring-size=1", NULL };
		int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);

		dup2(null, STDERR_FILENO);
		int r = options_parse(3, argv, &o);
		dup2(saved, STDERR_FILENO);
		close(saved);
		close(null);
		ok(r == -EINVAL && !memcmp(&o, &before, sizeof o), "on failure nothing is written");
	}
	o = (struct options){ 0 };
}

/* ---- reload ---- */

/* What options_keep_fixed() makes of @fresh beside @running, its warnings in `err`. */
static int keep_fixed(struct options *fresh, const struct options *running)
{
	int saved = dup(STDERR_FILENO), to = memfd_create("err", 0), r;

	dup2(to, STDERR_FILENO);
	r = options_keep_fixed(fresh, running);
	dup2(saved, STDERR_FILENO);
	close(saved);
	read_back(to, err, sizeof err);
	return r;
}

static void check_reload(void)
{
	struct options running;

	run("--config=/dev/null");
	running = o;
	o = (struct options){ 0 };
	ok(keep_fixed(&running, &running) == 0 && !*err, "nothing changed: nothing to say");

	run("--config=/dev/null", "--timeout-established=5s", "--max-subscribers=7",
	    "--log-level=debug", "--interface=x", "--ring-size=2M", "--decap", "--socket-mode=0600",
	    "--socket=/other", "--socket-group=staff", "--allow-group=5");
	ok(keep_fixed(&o, &running) == 0, "new options beside running ones");
	ok(o.timeout_established_ns == 5 * SEC && o.max_subscribers == 7 &&
		   o.log_level == LOG_LEVEL_DEBUG && !strcmp(o.interfaces.names[0], "x") &&
		   ids_are(&o.allow_groups, "5"),
	   "what can be changed while it runs is changed");
	ok(o.ring_size_bytes == 2 << 20 && o.decap, "and what other rings are needed for");
	ok(o.socket_mode == running.socket_mode && !strcmp(o.socket, running.socket) &&
		   o.socket != running.socket && !o.socket_group,
	   "what only a start can change is as it was");
	ok(count_lines(err) == 3 && strstr(err, "socket: ") && strstr(err, "socket-mode: ") &&
		   strstr(err, "socket-group: "),
	   "and each of those is named, once");
	options_free(&running);

	run("--config=/dev/null", "--mode=auto");
	running = o;
	o = (struct options){ 0 };
	run("--config=/dev/null", "--decap", "--icmp", "--ring-size=2M", "--promiscuous",
	    "--filter=tcp");
	ok(keep_fixed(&o, &running) == 0 && o.mode == MODE_AUTO && !o.decap && !o.icmp,
	   "with mode=auto what its filter does not pass is as it was");
	ok(o.promiscuous && o.ring_size_bytes == 2 << 20 && o.filter,
	   "and what other rings are needed for is changed");
	options_free(&running);
}

/* ---- what is written about the options elsewhere ---- */

static char *slurp(const char *path)
{
	static char text[1 << 16];
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;

	if (f)
		fclose(f);
	text[n] = '\0';
	return text;
}

/* Does the text from @from to @to (NULL: its end) tell the range of @opt?  The timeouts share one
 * sentence, words and switches have no range. */
static bool says_range(const struct opt *opt, const char *from, const char *to)
{
	char text[2048], range[80];
	size_t n = 0;

	if (opt->type < OPT_NUMBER || opt->type > OPT_TIME ||
	    (!strncmp(opt->name, "timeout-", 8) && strcmp(opt->name, "timeout-syn-sent")))
		return true;
	for (; from != to && *from && n < sizeof text - 1; from++) {
		if (*from == '\n' && !strncmp(from, "\n# ", 3))
			from += 2;
		text[n++] = *from == '\n' ? ' ' : *from;
	}
	text[n] = '\0';
	snprintf(range, sizeof range, "%s to %s", opt_number_text(opt->type, opt->min).s,
		 opt_number_text(opt->type, opt->max).s);
	if (!strstr(text, range))
		printf("# --%s: no '%s' in '%s'\n", opt->name, range, text);
	return strstr(text, range);
}

/* Each "#name =" with its '#' taken away: now nothing is left to the built-in defaults. */
static void check_example(void)
{
	char *text = slurp("conf/synfind.conf"), config[64];
	struct options want;
	const char *last = text;
	bool all = true, same = true, ranges = true;

	ok(*text, "conf/synfind.conf can be read");
	ok(run_file(text) == 0, "conf/synfind.conf is right as it is");
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		char line[256], *at;

		if (opt->section == FLAGS_ONLY)
			continue;
		snprintf(line, sizeof line, "\n#%s =%s%s\n", opt->name, *opt->initial ? " " : "",
			 opt->initial);
		at = strstr(text, line);
		if (at)
			at[1] = ' ';
		else
			printf("# not in conf/synfind.conf: %s", line + 1);
		all = all && at;
		if (at) {
			ranges = ranges && says_range(opt, last, at);
			last = at + 1;
		}
	}
	ok(all, "conf/synfind.conf has every option with its default");
	ok(ranges, "and its range");
	for (char *s = text; (s = strstr(s, "\n#")); s++)
		if (s[2] != ' ' && s[2] != '\n') {
			printf("# unknown: %.40s\n", s + 1);
			all = false;
		}
	ok(all, "and none that there is not");

	run("--config=/dev/null");
	want = o;
	o = (struct options){ 0 };
	ok(run_file(text) == 0, "with every option uncommented it is right as well");
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		const void *a = field(&o, opt), *b = field(&want, opt);

		if (opt->type == OPT_STRING)
			same = same && (*(char *const *)a && *(char *const *)b
						? !strcmp(*(char *const *)a, *(char *const *)b)
						: *(char *const *)a == *(char *const *)b);
		else if (opt->type == OPT_TIMES)
			same = same && !memcmp(a, b, opt->octets);
		else if (opt->type == OPT_SIZE || opt->type == OPT_TIME)
			same = same && *(const uint64_t *)a == *(const uint64_t *)b;
		else if (opt->type == OPT_BOOL)
			same = same && *(const bool *)a == *(const bool *)b;
		else if (opt->type < OPT_STRING || opt->type == OPT_KINDS)
			same = same && *(const unsigned *)a == *(const unsigned *)b;
	}
	ok(same && interfaces_are("auto"), "and gives the defaults");
	options_free(&want);

	/* Proof that the comparison above reads the file: one value changed is one value seen. */
	snprintf(config, sizeof config, "max-half-open = 65536");
	char *at = strstr(text, config);
	ok(at && (at[16] = '5', run_file(text) == 0) && o.max_half_open == 55536,
	   "an edited value is what is loaded");
}

static void check_manual(void)
{
	const char *text = slurp("docs/man/synfind.8");

	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		char item[64], letter[8] = "", initial[64];
		const char *at, *next;

		if (opt->letter)
			snprintf(letter, sizeof letter, " %c , Fl", opt->letter);
		snprintf(item, sizeof item, "\n.It Fl%s -%s%s\n", letter, opt->name,
			 opt->value || (opt->type == OPT_BOOL && opt->initial) ? " Ns =" : "");
		item[strlen(item) - 1] = '\0';
		at = strstr(text, item);
		next = at ? strstr(at + 1, "\n.It") : NULL;
		if (!ok(at != NULL, "synfind(8) has --%s", opt->name) || !opt->initial)
			continue;
		ok(says_range(opt, at, next), "synfind(8) has the range of --%s", opt->name);
		snprintf(initial, sizeof initial, "%s%s%s",
			 opt->initial[0] == '/' ? "\n.Pa " : "Default: ",
			 *opt->initial ? opt->initial : "empty",
			 opt->initial[0] == '/' ? " ." : ".\n");
		at = strstr(at, initial);
		ok(at && (!next || at < next), "synfind(8) has its default, %s",
		   *opt->initial ? opt->initial : "empty");
	}
}

/* ---- the control socket ---- */

static bool control_is(char *socket, char *control, const char *want)
{
	char path[108];

	run("--config=/dev/null", socket, control);
	options_control_path(&o, path);
	if (strcmp(path, want))
		printf("# %s %s: '%s'\n", socket, control, path);
	return !strcmp(path, want);
}

static void check_control_path(void)
{
	char longest[160] = "--socket=/", want[120] = "/";

	ok(control_is("--quiet=no", "--control-socket=auto", "/run/synfind/control.sock"),
	   "control-socket: by default beside the events socket");
	ok(control_is("--socket=/x/events.sock", "--control-socket=auto", "/x/control.sock") &&
		   control_is("--socket=events.sock", "--control-socket=auto", "control.sock"),
	   "in its directory");
	ok(control_is("--socket=/x/other.sock", "--control-socket=auto", "") &&
		   control_is("--socket=", "--control-socket=auto", "") &&
		   control_is("--socket=/x/my-events.sock", "--control-socket=auto", ""),
	   "none beside one of another name");
	ok(control_is("--socket=/x/events.sock", "--control-socket=off", "") &&
		   control_is("--socket=/x/events.sock", "--control-socket=", ""),
	   "none if it is off");
	ok(control_is("--socket=", "--control-socket=/y/z", "/y/z"), "a path is itself");
	memset(longest + 10, 'd', 94);
	strcpy(longest + 104, "/events.sock");
	longest[10 + 94] = '/';
	memset(want + 1, 'd', 94);
	strcpy(want + 95, "/control.sock");
	ok(strlen(longest + 9) == 107 && control_is(longest, "--control-socket=auto", ""),
	   "none if its path would be too long");
	memmove(longest + 10, longest + 11, strlen(longest + 10));
	memmove(want + 1, want + 2, strlen(want + 1));
	ok(strlen(want) == 107 && control_is(longest, "--control-socket=auto", want),
	   "else up to the last octet");
}

/* ---- values as text ---- */

static bool text_is(const char *name, const char *want)
{
	char text[256];

	if (opt_value_text(opt_find(name), &o, text, sizeof text) && !strcmp(text, want))
		return true;
	printf("# %s: '%s'\n", name, text);
	return false;
}

static void check_texts(void)
{
	char few[4] = "xyz";
	bool same = true;

	run("--config=/dev/null");
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		if (opt->section != FLAGS_ONLY && opt->type != OPT_TIME) /* 1d for 24h */
			same &= text_is(opt->name, opt->initial);
	ok(same, "the default of every option as text is what the table says");
	run("--config=/dev/null", "--interface=a,b", "--allow-user=7,0", "--stuck-after=0",
	    "--mode=auto", "--promiscuous", "--socket-mode=7", "--ring-size=3M", "--socket=");
	ok(text_is("interface", "a,b") && text_is("allow-user", "7,0") &&
		   text_is("stuck-after", "0s") && text_is("mode", "auto") &&
		   text_is("promiscuous", "yes") && text_is("socket-mode", "0007") &&
		   text_is("ring-size", "3M") && text_is("socket", ""),
	   "other values as well");
	run("--config=/dev/null", "--events=stats,tcp_close");
	ok(text_is("events", "tcp_close,capture_loss,stats,restart,lost"),
	   "a set of kinds, with those that are always there");
	ok(text_is("timeout-established", "1d") && text_is("block-timeout", "2ms") &&
		   text_is("syn-flood-interval", "10s"),
	   "times in the largest unit");
	run("--config=/dev/null", "--interface=ab,cd", "--socket=/abc");
	ok(!opt_value_text(opt_find("interface"), &o, few, sizeof few) && !strcmp(few, "ab") &&
		   !opt_value_text(opt_find("socket"), &o, few, sizeof few) && !strcmp(few, "/ab"),
	   "what is too long is cut, a list between its items");
}

static void check_origins(void)
{
	struct options running;

	run_file("max-subscribers = 7\nallow-user = 1\nallow-user = 2\nqueue-size = 1M\n");
	ok(options_set_by(&o, opt_find("max-subscribers")) == 1 &&
		   options_set_by(&o, opt_find("allow-user")) == 3 &&
		   options_set_by(&o, opt_find("mode")) == OPTION_BY_DEFAULT,
	   "what set an option: the last line, or the default");
	running = o;
	o = (struct options){ 0 };
	run_file("\nqueue-size = 2M\n");
	ok(keep_fixed(&o, &running) == 0 && options_set_by(&o, opt_find("queue-size")) == 4,
	   "a value that stays at a reload stays with its line");
	options_free(&running);
	run("--config=/dev/null", "--mode=control");
	ok(options_set_by(&o, opt_find("mode")) == OPTION_BY_FLAG, "or a flag");
}

int main(void)
{
	int fd;

	unsetenv("JOURNAL_STREAM");
	setenv("NO_COLOR", "1", 1);
	strcpy(conf_path, "/tmp/synfind-conf-XXXXXX");
	fd = mkstemp(conf_path);
	if (fd < 0)
		return 1;
	close(fd);

	check_fields_apart();
	check_defaults();
	check_units();
	check_lists();
	check_ids();
	check_precedence();
	check_together_rules();
	check_every_row();
	check_kinds();
	check_filter_option();
	check_processors();
	check_all_errors_told();
	check_layout();
	check_hostile();
	check_flags();
	check_answers();
	check_example();
	check_manual();
	check_ownership();
	check_reload();
	check_control_path();
	check_texts();
	check_origins();

	options_free(&o);
	unlink(conf_path);
	return tap_done();
}
