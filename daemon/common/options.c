#include "common/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "common/cpulist.h"
#include "common/opttable.h"
#include "wire/frame.h" /* enum frame_inside */

enum {
	ERRORS_SHOWN = 100,	    /* a binary file should not fill the terminal */
	FILE_MAX_OCTETS = 64 << 20, /* nor an endless one keep us for ever */
	/* A message is cut at its end, where the cause is: what is before it has to be short. */
	FLAG_SHOWN = 60,
	PATH_SHOWN = 1024,
};

static void freep(void *p)
{
	free(*(void **)p);
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
	char text[OPT_MESSAGE_MAX]; /* "; did you mean ...?" or "" */
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
		guess_offer(&g, opt_sections[i].name, "[", "]");
	return g;
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
	char msg[OPT_MESSAGE_MAX];

	if (opt_is_list(opt) && (*set_by == BY_DEFAULT || (by == BY_FLAG && *set_by != by)))
		opt_clear(opt, &p->o);
	*set_by = by;
	if (opt_set(opt, text, &p->o, msg) < 0)
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
			 c->p->path, c->line, opt_quoted(line).s);
		return;
	}
	name = strndup(line + 1, (size_t)(end - line - 1));
	if (!name) {
		complain(c->p, "%s:%d: out of memory", c->p->path, c->line);
		return;
	}
	for (int i = 0; i < FLAGS_ONLY; i++)
		if (!strcmp(name, opt_sections[i].name)) {
			c->section = (enum section)i;
			return;
		}
	complain(c->p, "%s:%d: unknown section %s%s", c->p->path, c->line, opt_quoted(name).s,
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

	opt = opt_find(name);
	if (!opt)
		complain(p, "%s:%d: unknown option %s%s", p->path, c->line, opt_quoted(name).s,
			 guess_option(name, false).text);
	else if (opt->section == FLAGS_ONLY)
		complain(p, "%s:%d: '%s' can only be given as a flag, --%s", p->path, c->line, name,
			 name);
	else if (c->section != FLAGS_ONLY && c->section != opt->section)
		complain(p, "%s:%d: '%s' belongs to section [%s], not [%s]", p->path, c->line, name,
			 opt_sections[opt->section].name, opt_sections[c->section].name);
	else if (!opt_is_list(opt) && p->set_by[opt - opts] != BY_DEFAULT)
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
	size_t n = strlen(path);
	int r;

	c.f = fopen(path, "re");
	path += n > PATH_SHOWN ? n - PATH_SHOWN : 0; /* its end tells more than its beginning */
	if (!c.f && (wanted || (errno != ENOENT && errno != ENOTDIR)))
		complain(p, "%s%s: cannot be opened: %m", wanted ? "--config: " : "", path);
	if (!c.f)
		return;
	p->path = path;
	r = ini_parse_stream(feed_line, &c, take_line, &c);
	if (ferror(c.f))
		complain(p, "%s:%d: cannot be read: %m", path, c.line + 1);
	else if (r < 0 || (r > 0 && !p->errors))
		complain(p, "%s:%d: cannot be parsed", path, r < 0 ? c.line : r);
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

	if (!name)
		complain(p, "out of memory");
	else if (strlen(name) <= FLAG_SHOWN)
		complain(p, "--%s: unknown option%s", name, guess_option(name, true).text);
	else
		complain(p, "--%.*s...: unknown option", FLAG_SHOWN, name);
}

static void complain_stray(struct parser *p, const char *arg)
{
	complain(p, "%s: unexpected argument; did you mean --read=FILE or --interface=NAME?",
		 opt_quoted(arg).s);
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
		int arg = opt->type == OPT_BOOL	 ? optional_argument
			  : opt_takes_value(opt) ? required_argument
						 : no_argument;

		*l++ = (struct option){ opt->name, arg, NULL, LONG_ID + i };
		if (opt->type == OPT_BOOL) {
			snprintf(t->no[i], sizeof t->no[i], "no-%s", opt->name);
			*l++ = (struct option){ t->no[i], no_argument, NULL, NO_ID + i };
		}
		if (opt->letter)
			*s++ = opt->letter;
		if (opt->letter && opt_takes_value(opt))
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
		printf("\n%s\n", opt_sections[s].title);
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
	printf("\ndecoders:    %u per interface\n"
	       "ring:        %s per decoder, %llu blocks of %s\n"
	       "connections: %u at most, and %u half-open ones\n"
	       "event ring:  %u events per decoder\n"
	       "queue:       %s, one for all of the %u subscribers at most\n",
	       o->decoders, opt_number_text(OPT_SIZE, o->ring_size_bytes).s,
	       (unsigned long long)(o->ring_size_bytes / o->ring_block_size_bytes),
	       opt_number_text(OPT_SIZE, o->ring_block_size_bytes).s, o->max_connections,
	       o->max_half_open, o->event_ring_size,
	       opt_number_text(OPT_SIZE, o->queue_size_bytes).s, o->max_subscribers);
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
	char msg[OPT_MESSAGE_MAX];

	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		if (opt->initial && opt_set(opt, opt->initial, &p->o, msg) < 0)
			complain_at(p, opt, msg);
}

/* What depends on more than one option. */
static void check_together(struct parser *p)
{
	struct options *o = &p->o;
	const struct opt *ring = opt_find("ring-size"), *block = opt_find("ring-block-size");
	char msg[OPT_MESSAGE_MAX];

	/* The kernel fills one block while another is read. */
	if (o->ring_size_bytes % o->ring_block_size_bytes ||
	    o->ring_size_bytes < 2 * o->ring_block_size_bytes) {
		snprintf(msg, sizeof msg,
			 "a ring of %s in blocks of %s; ring-size must be a multiple of "
			 "ring-block-size, two blocks at least",
			 opt_number_text(OPT_SIZE, o->ring_size_bytes).s,
			 opt_number_text(OPT_SIZE, o->ring_block_size_bytes).s);
		complain_at(p, p->set_by[ring - opts] == BY_DEFAULT ? block : ring, msg);
	}
	if (o->mode == MODE_AUTO && (o->decap || o->icmp))
		complain_at(p, opt_find("mode"), "auto does not go together with decap or icmp");
	if (o->pin_decoders && cpulist_parse(o->pin_decoders, &(struct cpulist){ .n = 0 }) < 0) {
		snprintf(msg, sizeof msg,
			 "%s is no list of processors; allowed: auto, or such as 0-3,8, up to %d",
			 opt_quoted(o->pin_decoders).s, CPU_SETSIZE - 1);
		complain_at(p, opt_find("pin-decoders"), msg);
	}
	if (o->read_file && p->set_by[opt_find("decoders") - opts] == BY_FLAG)
		complain_at(p, opt_find("decoders"), "only for live capture, not with --read");
	if (o->quiet && !o->read_file)
		complain_at(p, opt_find("quiet"), "only together with --read");
	if (o->read_file && p->set_by[opt_find("interface") - opts] == BY_FLAG)
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

int options_keep_fixed(struct options *fresh, const struct options *running)
{
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		bool live = opt->live || (opt->ring && running->mode != MODE_AUTO);
		int r = live || opt->type > OPT_STRING ? 0 : opt_keep(opt, fresh, running);

		if (r < 0)
			return r;
		if (r)
			log_warn("%s: a new value counts from the next start on", opt->name);
	}
	return 0;
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
	*o = (struct options){ 0 };
}
