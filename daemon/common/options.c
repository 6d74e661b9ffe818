#include "common/options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "base/guess.h"
#include "common/capfilter.h"
#include "common/cpulist.h"
#include "common/opttable.h"
#include "flow/event.h"
#include "wire/frame.h" /* enum frame_inner */
#include "wire/link.h"

enum {
	ERRORS_SHOWN = 100, /* so that a binary file does not fill the terminal */
	LINE_OCTETS = 4200, /* a path of any length fits */
	FILE_OCTETS = 64 << 20,
	/* A message is cut at its end, where the cause is.  What stands before it must be short. */
	FLAG_SHOWN = 60,
	PATH_SHOWN = 1024,
};

enum { BY_DEFAULT = OPTION_BY_DEFAULT, BY_FLAG = OPTION_BY_FLAG };

struct flag {
	const struct opt *opt;
	const char *value;
};

struct parser {
	struct options o;
	int set_by[N_OPT]; /* see options_set_by() */
	unsigned errors;

	/* the flags; they are applied after the file */
	struct flag *flags; /* at most argc */
	size_t n_flags;
	char **arg;		  /* the current one */
	const struct opt *answer; /* --help or --version, with no error before it */
	const char *config;	  /* --config */
	bool reads;		  /* --read was given: further arguments are files too */

	/* the file */
	const char *path;     /* NULL: none was read */
	int line;	      /* the current one; 0: none */
	enum section section; /* of this line; FLAGS_ONLY: none, or an unknown one */
};

static void parser_done(struct parser *p)
{
	options_free(&p->o);
	free(p->flags);
}

/* Logs an error, after the place: of @opt, or the current line if @opt is NULL. */
__attribute__((format(printf, 3, 4))) static void complain(struct parser *p, const struct opt *opt,
							   const char *fmt, ...)
{
	int line = opt ? p->set_by[opt - opts] : p->line;
	char text[LOG_LINE_MAX];
	bool in_file = line && line != BY_FLAG;
	int n = in_file ? snprintf(text, sizeof text, "%s:%d: ", p->path, line) : 0;
	va_list ap;

	if (p->errors++ >= ERRORS_SHOWN)
		return;
	if (opt)
		n += sprintf(text + n, "%s%s: ", in_file ? "" : "--", opt->name);
	va_start(ap, fmt);
	vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
	va_end(ap);
	log_error("%s", text);
}

/* ---- "did you mean ...?" ---- */

/* What users of other tools look for. */
static const struct {
	const char *name, *text;
} elsewhere[] = {
	{ "port", "did you mean --filter='port 443'?" },
	{ "host", "did you mean --filter='host 192.0.2.1'?" },
	{ "output", "use --stdout and the shell: synfind --stdout >FILE" },
	{ "write", "use --stdout and the shell: synfind --stdout >FILE" },
	{ "device", "did you mean '--interface'?" },
	{ "file", "did you mean '--read'?" },
	{ "pcap", "did you mean '--read'?" },
	{ "verbose", "did you mean '--log-level=debug'?" },
	{ "debug", "did you mean '--log-level=debug'?" },
	{ "daemon", "the service does that: systemctl start synfind" },
};

static struct guess guess_option(const char *name, bool flag)
{
	bool no = flag && !strncmp(name, "no-", 3);
	struct guess g = GUESS_NONE;

	for (unsigned i = 0; i < ARRAY_SIZE(elsewhere); i++)
		if (!strcmp(name, elsewhere[i].name))
			snprintf(g.text, sizeof g.text, "; %s", elsewhere[i].text);
	if (*g.text)
		return g;
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		if (flag || opt->section != FLAGS_ONLY)
			guess_offer(&g, name, flag ? "'--" : "'", opt->name, "'");
		if (no && opt->type == OPT_BOOL)
			guess_offer(&g, name + 3, "'--no-", opt->name, "'");
	}
	return g;
}

/* ---- the file ---- */

/* Sets @opt from the file or a flag.  The first flag (or line) that names a list replaces it, the
 * next ones add to it. */
static void set_option(struct parser *p, const struct opt *opt, const char *text, int by)
{
	int *set_by = &p->set_by[opt - opts];
	const struct name_list *l = &p->o.interfaces;
	char msg[OPT_MESSAGE_MAX];

	if (opt_is_list(opt) && (*set_by == BY_DEFAULT || (by == BY_FLAG && *set_by != by)))
		opt_clear(opt, &p->o);

	size_t before = l->n;

	*set_by = by;
	if (opt_set(opt, text, &p->o, msg) < 0)
		complain(p, opt, "%s", msg);
	for (size_t i = l->n; opt->type == OPT_LIST && i-- > before;)
		l->lines[i] = by == BY_FLAG ? 0 : by;
}

static char *trim(char *s)
{
	char *end = s + strlen(s);

	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return s + strspn(s, " \t");
}

/* @line begins with '['. */
static void read_section(struct parser *p, char *line)
{
	struct guess g = GUESS_NONE;
	char *end = strchr(line, ']');

	p->section = FLAGS_ONLY;
	if (!end || !strchr(";#", *trim(end + 1))) { /* or the end of the line */
		complain(p, NULL, "%s is not a section; expected [name] alone on its line",
			 opt_quoted(line).s);
		return;
	}
	*end = '\0';
	for (enum section s = CAPTURE; s < FLAGS_ONLY; s++) {
		if (!strcmp(line + 1, opt_sections[s].name))
			p->section = s;
		guess_offer(&g, line + 1, "[", opt_sections[s].name, "]");
	}
	if (p->section == FLAGS_ONLY)
		complain(p, NULL, "unknown section %s%s", opt_quoted(line + 1).s, g.text);
}

/* @line should be "name = value" or "name: value". */
static void read_assignment(struct parser *p, char *line)
{
	char *divider = line + strcspn(line, "=:"), *value = trim(divider + !!*divider);
	const struct opt *opt;
	int before;

	if (!*divider || divider == line) {
		complain(p, NULL, "expected name = value");
		return;
	}
	*divider = '\0';
	trim(line);
	opt = opt_find(line);
	before = opt ? p->set_by[opt - opts] : BY_DEFAULT;
	if (!opt)
		complain(p, NULL, "unknown option %s%s", opt_quoted(line).s,
			 guess_option(line, false).text);
	else if (opt->section == FLAGS_ONLY)
		complain(p, NULL, "'%s' can only be given as a flag, --%s", line, line);
	else if (p->section != FLAGS_ONLY && p->section != opt->section)
		complain(p, NULL, "'%s' belongs to section [%s], not [%s]", line,
			 opt_sections[opt->section].name, opt_sections[p->section].name);
	else if (!opt_is_list(opt) && before != BY_DEFAULT)
		complain(p, NULL, "'%s' was already given in line %d", line, before);
	else
		set_option(p, opt, value, p->line);
}

/* Parses a line of @n octets, of which @buf holds as many as fit. */
static void parse_line(struct parser *p, char *buf, size_t n)
{
	char *line = buf;

	for (size_t i = 0; i < n && i < LINE_OCTETS; i++) {
		unsigned char c = (unsigned char)buf[i];

		if ((c < 0x20 && c != '\t' && (c != '\r' || i < n - 1)) || c == 0x7f) {
			complain(p, NULL, "control character 0x%02x; this is not a text file", c);
			return;
		}
	}
	if (n > LINE_OCTETS) {
		complain(p, NULL,
			 "the line has %zu octets; allowed: up to %d (a list can be divided into "
			 "several lines, each with its name)",
			 n, LINE_OCTETS);
		return;
	}
	if (p->line == 1 && !strncmp(line, "\xef\xbb\xbf", 3)) /* UTF-8 byte order mark */
		line += 3;
	for (char *s = line; (s = strchr(s, ';')); s++)
		if (s > line && isspace((unsigned char)s[-1]))
			*s = '\0'; /* a comment */
	line = trim(line);
	if (*line == '[')
		read_section(p, line);
	else if (*line && *line != '#' && *line != ';')
		read_assignment(p, line);
}

/* The next line into @buf, without its end.  *@ret: its octets, which may not all be in @buf.
 * False at the end of the file. */
static bool read_line(FILE *f, char buf[static LINE_OCTETS + 1], size_t *ret)
{
	size_t n = 0;
	int c;

	while ((c = getc_unlocked(f)) != EOF && c != '\n' && n < FILE_OCTETS)
		if (n++ < LINE_OCTETS)
			buf[n - 1] = (char)c;
	buf[n < LINE_OCTETS ? n : LINE_OCTETS] = '\0';
	*ret = n;
	return n || c != EOF;
}

/* Reads @path.  It may be missing unless it was @wanted. */
static void read_config(struct parser *p, const char *path, bool wanted)
{
	const char *flag = wanted ? "--config: " : "";
	char buf[LINE_OCTETS + 1];
	size_t n = strlen(path), total = 0;
	FILE *f = fopen(path, "re");

	path += n > PATH_SHOWN ? n - PATH_SHOWN : 0; /* the end of a path matters most */
	if (!f && (wanted || (errno != ENOENT && errno != ENOTDIR)))
		complain(p, NULL, "%s%s: cannot be opened: %m", flag, path);
	if (!f)
		return;
	p->path = path;
	p->section = FLAGS_ONLY;
	while (total <= FILE_OCTETS && read_line(f, buf, &n)) {
		p->line++;
		total += n + 1;
		if (total <= FILE_OCTETS)
			parse_line(p, buf, n);
		else
			complain(p, NULL, "the file is longer than %d octets; not read any further",
				 FILE_OCTETS);
	}
	p->line = 0;
	if (ferror(f))
		complain(p, NULL, "%s%s: cannot be read: %m", flag, path);
	fclose(f);
}

/* ---- the flags ---- */

static bool is_flag(const char *arg)
{
	return arg && arg[0] == '-' && arg[1];
}

/* Keeps a flag for later. */
static void keep_flag(struct parser *p, const struct opt *opt, const char *value)
{
	if (opt->type == OPT_HELP || opt->type == OPT_VERSION)
		p->answer = p->errors ? NULL : opt;
	else if (opt->type == OPT_CONFIG)
		p->config = value;
	else if (opt->type == OPT_CHECK)
		p->o.check = log_as_stream();
	else
		p->flags[p->n_flags++] = (struct flag){ opt, value };
	p->reads |= opt->type == OPT_FILES;
}

/* @value is that of @opt, or NULL: then it is the next argument. */
static void read_value(struct parser *p, const struct opt *opt, const char *value)
{
	if (!value && p->arg[1])
		value = *++p->arg;
	if (value)
		keep_flag(p, opt, value);
	else
		complain(p, opt, "needs a value, --%s=%s", opt->name, opt->value);
}

/* The argument begins with "--".  Names are given in full: an abbreviation would no longer be
 * unique once an option is added. */
static void read_long(struct parser *p)
{
	const char *given = *p->arg + 2, *end = strchrnul(given, '=');
	const char *value = *end ? end + 1 : NULL;
	char name[FLAG_SHOWN + 1];
	int n = snprintf(name, sizeof name, "%.*s", (int)(end - given), given);
	const struct opt *opt = opt_find(name);
	bool no = !opt && !strncmp(name, "no-", 3) && (opt = opt_find(name + 3));

	if (!opt || (no && opt->type != OPT_BOOL)) {
		complain(p, NULL, "--%s%s: unknown option%s", name, n > FLAG_SHOWN ? "..." : "",
			 guess_option(name, true).text);
		if (!value && p->arg[1] && !is_flag(p->arg[1]))
			p->arg++; /* it is probably the value */
	} else if (opt->value) {
		read_value(p, opt, value);
	} else if (value && (no || opt->type != OPT_BOOL)) {
		complain(p, NULL, "--%s%s: takes no value", no ? "no-" : "", opt->name);
	} else {
		keep_flag(p, opt, no ? "no" : value ?: "yes");
	}
}

/* The argument is a '-' and letters. */
static void read_letters(struct parser *p)
{
	for (const char *s = *p->arg + 1; *s && !p->answer; s++) {
		const struct opt *opt = opts;

		while (opt < opts + N_OPT && opt->letter != *s)
			opt++;
		if (opt == opts + N_OPT) {
			complain(p, NULL, "-%c: unknown option", *s);
		} else if (opt->value) {
			read_value(p, opt, s[1] ? s + 1 : NULL);
			return;
		} else {
			keep_flag(p, opt, "yes");
		}
	}
}

/* An argument without a '-'. */
static void read_argument(struct parser *p)
{
	if (p->reads)
		keep_flag(p, opt_find("read"), *p->arg);
	else
		complain(p, NULL,
			 "%s: unexpected argument; did you mean --read=FILE or "
			 "--interface=NAME?",
			 opt_quoted(*p->arg).s);
}

/* Keeps the flags of @argv, up to one that is answered. */
static void read_flags(struct parser *p, char **argv)
{
	bool ended = false; /* by "--" */

	for (p->arg = argv; *p->arg && !p->answer; p->arg++)
		if (!ended && !strcmp(*p->arg, "--"))
			ended = true;
		else if (ended || !is_flag(*p->arg))
			read_argument(p);
		else
			((*p->arg)[1] == '-' ? read_long : read_letters)(p);
}

/* ---- what is printed ---- */

enum { HELP_COLUMN = 30, HELP_WIDTH = 79 };

/* Prints @text from @column on, broken into lines between words.  Returns the column after it. */
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
	char left[64], initial[64];
	size_t n;

	snprintf(left, sizeof left, "  %c%c%s --%s%s%s%s", opt->letter ? '-' : ' ',
		 opt->letter ? opt->letter : ' ', opt->letter ? "," : " ",
		 opt->type == OPT_BOOL && opt->initial ? "[no-]" : "", opt->name,
		 opt->value ? "=" : "", opt->value ? opt->value : "");
	n = strlen(left);
	if (n < HELP_COLUMN - 1)
		printf("%-*s", HELP_COLUMN, left);
	else
		printf("%s\n%*s", left, HELP_COLUMN, "");
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
	     "       synfind --read=FILE [FILE]... [FLAG]...\n"
	     "Watch TCP connections and publish each change of state as a line of JSON.\n"
	     "\n"
	     "Defaults are in [brackets]. SIZE: a number, with K, M or G if wanted. TIME: a\n"
	     "number with ns, us, ms, s, min, h or d. A flag overrides the file.");
	for (enum section s = CAPTURE; s < N_SECTION; s++) {
		printf("\n%s\n", opt_sections[s].title);
		for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
			if (opt->section == s)
				print_option(opt);
	}
	puts("\nWatch:        synfinctl watch\n"
	     "Read events:  socat -u UNIX-CONNECT:/run/synfind/events.sock -\n"
	     "Manual:       man 8 synfind");
}

/* 1, or -EINVAL if the output was not written (a full disk). */
static int printed(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 1;
	log_errno(errno, "Cannot write to standard output");
	return -EINVAL;
}

/* ---- all together ---- */

/* All programs that read the configuration refuse the same expressions, so that none of them runs
 * with another filter than the others. */
static void check_filter(struct parser *p)
{
	struct sock_filter insns[CAPFILTER_MAX];
	char error[CAPFILTER_ERROR_MAX];

	if (p->o.filter && capfilter_build(p->o.filter, LINK_ETHERNET, insns, error) < 0)
		complain(p, opt_find("filter"), "%s", error);
}

/* What depends on more than one option. */
static void check_together(struct parser *p)
{
	struct options *o = &p->o;
	const struct opt *ring = opt_find("ring-size"), *decoders = opt_find("decoders");

	/* The kernel fills one block while we read another. */
	if (o->ring_size_bytes % o->ring_block_size_bytes ||
	    o->ring_size_bytes < 2 * o->ring_block_size_bytes) {
		if (p->set_by[ring - opts] == BY_DEFAULT)
			ring = opt_find("ring-block-size");
		complain(p, ring,
			 "a ring of %s in blocks of %s; ring-size must be a multiple of "
			 "ring-block-size, at least two blocks",
			 opt_number_text(OPT_SIZE, o->ring_size_bytes).s,
			 opt_number_text(OPT_SIZE, o->ring_block_size_bytes).s);
	}
	/* The default of icmp is no with mode=auto, which refuses it below, and with several
	 * decoders, which need CAP_BPF for it. */
	if ((o->mode == MODE_AUTO || o->decoders > 1) &&
	    p->set_by[opt_find("icmp") - opts] == BY_DEFAULT)
		o->icmp = false;
	if (o->mode == MODE_AUTO && (o->decap || o->icmp))
		complain(p, opt_find("mode"), "auto cannot be combined with decap or icmp");
	check_filter(p);
	if (o->pin_decoders && cpulist_parse(o->pin_decoders, &(struct cpulist){ .n = 0 }) < 0)
		complain(p, opt_find("pin-decoders"),
			 "%s is not a list of processors; allowed: auto, or a list such as 0-3,8, "
			 "up to %d",
			 opt_quoted(o->pin_decoders).s, CPU_SETSIZE - 1);
	if (o->read_files.n && p->set_by[decoders - opts] == BY_FLAG)
		complain(p, decoders, "only for live capture, not with --read");
	if (!o->read_files.n && o->events & 1u << EVENT_TCP_SEGMENT)
		complain(p, opt_find("events"),
			 "tcp_segment only with --read; of live connections it comes on request "
			 "(synfind-requests(7))");
	if (o->quiet && !o->read_files.n && !o->check)
		complain(p, opt_find("quiet"), "only together with --read or --check-config");
	if (o->read_files.n && p->set_by[opt_find("interface") - opts] == BY_FLAG)
		log_warn("--interface: has no effect with --read");
}

/* Orders pointers into a list by name, then by place. */
static int compare_names(const void *a, const void *b)
{
	char *const *const *x = a, *const *const *y = b;

	return strcmp(**x, **y) ?: (*x > *y) - (*x < *y);
}

/* Keeps the first of equal names. */
static void drop_repeated(struct name_list *l)
{
	char ***sorted = calloc(l->n, sizeof *sorted);
	size_t n = l->n;

	if (!sorted)
		return; /* a name twice does no harm */
	for (size_t i = 0; i < n; i++)
		sorted[i] = &l->names[i];
	qsort(sorted, n, sizeof *sorted, compare_names);
	for (size_t i = n; i-- > 1;)
		if (!strcmp(*sorted[i], *sorted[i - 1])) {
			free(*sorted[i]);
			*sorted[i] = NULL;
		}
	l->n = 0;
	for (size_t i = 0; i < n; i++)
		if (l->names[i]) {
			l->lines[l->n] = l->lines[i];
			l->names[l->n++] = l->names[i];
		}
	if (n)
		l->names[l->n] = NULL;
	free(sorted);
}

int options_parse(int argc, char **argv, struct options *ret)
{
	AUTO(parser_done) struct parser p = { .flags = calloc((size_t)argc + 1, sizeof *p.flags) };

	if (!p.flags) {
		log_error("out of memory");
		return -EINVAL;
	}
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		if (opt->initial)
			set_option(&p, opt, opt->initial, BY_DEFAULT);
	if (argc)
		read_flags(&p, argv + 1);
	if (p.answer) {
		if (p.answer->type == OPT_HELP)
			print_help();
		else
			puts("synfind " SYNFIND_VERSION);
		return printed();
	}
	read_config(&p, p.config ? p.config : DEFAULT_CONFIG, p.config);
	for (size_t i = 0; i < p.n_flags; i++)
		set_option(&p, p.flags[i].opt, p.flags[i].value, BY_FLAG);
	drop_repeated(&p.o.interfaces);
	if (!p.errors)
		check_together(&p);
	if (p.errors > ERRORS_SHOWN)
		log_error("%u more errors", p.errors - ERRORS_SHOWN);
	if (p.errors)
		return -EINVAL;
	p.o.set_by = malloc(sizeof p.set_by);
	if (!p.o.set_by || (p.path && !(p.o.file = strdup(p.path)))) {
		log_error("out of memory");
		return -EINVAL;
	}
	memcpy(p.o.set_by, p.set_by, sizeof p.set_by);
	*ret = p.o;
	p.o = (struct options){ 0 };
	return 0;
}

int options_set_by(const struct options *o, const struct opt *opt)
{
	return o->set_by[opt - opts];
}

void options_control_path(const struct options *o, char ret[static 108])
{
	const char *path = o->control_socket ?: "off", *slash = o->socket ?: "";
	const char *name = strrchr(slash, '/') ? strrchr(slash, '/') + 1 : slash;

	*ret = '\0';
	if (strcmp(path, "auto") && strcmp(path, "off"))
		snprintf(ret, 108, "%s", path);
	else if (!strcmp(path, "auto") && !strcmp(name, "events.sock") &&
		 snprintf(ret, 108, "%.*scontrol.sock", (int)(name - slash), slash) >= 108)
		*ret = '\0';
}

struct place options_place(const struct options *o, size_t i)
{
	const char *name = opt_find("interface")->name;
	struct place p;

	if (o->interfaces.lines[i])
		snprintf(p.s, sizeof p.s, "%s:%d: %s", o->file, o->interfaces.lines[i], name);
	else
		snprintf(p.s, sizeof p.s, "--%s", name);
	return p;
}

/* The filter of mode=auto passes TCP alone, and no reload changes the mode. */
static bool is_fixed_by_mode(const struct opt *opt, const struct options *running)
{
	return running->mode == MODE_AUTO && (opt == opt_find("decap") || opt == opt_find("icmp"));
}

int options_keep_fixed(struct options *fresh, const struct options *running)
{
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		bool live = opt->reload != AT_START && !is_fixed_by_mode(opt, running);
		int r = live || opt->type > OPT_STRING ? 0 : opt_keep(opt, fresh, running);

		if (r < 0)
			return r;
		if (r) {
			log_warn("%s: the new value takes effect at the next start", opt->name);
			fresh->set_by[opt - opts] = running->set_by[opt - opts];
		}
	}
	return 0;
}

static bool matches_many(const char *entry)
{
	return strpbrk(entry, "*?[") || !strcmp(entry, "any");
}

bool options_is_pattern(const char *entry)
{
	return matches_many(entry) || !strcmp(entry, "auto");
}

bool options_share_rings(const struct options *o)
{
	bool many = false;

	for (char **name = o->interfaces.names; *name; name++)
		many |= matches_many(*name);
	return many && o->mode != MODE_AUTO;
}

bool options_dedupe(const struct options *o, bool shared)
{
	return o->read_files.n ? o->dedupe == DEDUPE_YES : shared && o->dedupe != DEDUPE_NO;
}

unsigned options_inner(const struct options *o)
{
	return (o->decap ? INNER_TUNNELS : 0u) | (o->icmp ? INNER_ICMP : 0u);
}

const char *capture_mode_name(enum capture_mode m)
{
	static const char *const name[] = {
		[MODE_ALL] = "all", [MODE_CONTROL] = "control", [MODE_AUTO] = "auto"
	};

	return name[m];
}

void options_free(struct options *o)
{
	if (!o)
		return;
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		opt_clear(opt, o);
	free(o->file);
	free(o->set_by);
	*o = (struct options){ 0 };
}
