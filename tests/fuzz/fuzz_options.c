/* Any text as command line and configuration file: flags, one a line, an empty line, the file.
 *
 * What is accepted is in range, and is accepted again, as the same, when it is written out as
 * flags and as a file.  What is refused says why, each cause in a line of its own that begins with
 * the place: the file and the line, or the flag.
 *
 * The logger and the options are parts of this file, so that their octets can be caught on the way
 * to stderr, which belongs to the fuzzer. */
#include <unistd.h>

static ssize_t catch_error(int fd, const void *line, size_t n);

#define write catch_error
#include "../../daemon/common/log.c"
#undef write
#include "../../daemon/common/cpulist.c"
#include "../../daemon/common/opttable.c"
#include "../../daemon/common/options.c"
#include <sys/mman.h>

enum { FLAGS_MAX = 128, ERRORS_MAX = 1 << 19 };

static char errors[ERRORS_MAX], path[32];
static size_t errors_len;
static int config_fd;

__attribute__((noinline)) static void must(int truth)
{
	if (!truth)
		abort();
}

/* The expression is libpcap's business. */
int capfilter_build(const char *text, unsigned link, struct sock_filter *insns,
		    char reterr[static CAPFILTER_ERROR_MAX])
{
	must(*text && link == LINK_ETHERNET && insns);
	snprintf(reterr, CAPFILTER_ERROR_MAX, "it begins with '-'");
	return *text == '-' ? -EINVAL : 1;
}

static ssize_t catch_error(int fd, const void *line, size_t n)
{
	must(fd == STDERR_FILENO && n <= LOG_LINE_MAX && errors_len + n < sizeof errors);
	memcpy(errors + errors_len, line, n);
	errors_len += n;
	return (ssize_t)n;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	unsetenv("JOURNAL_STREAM");
	setenv("NO_COLOR", "1", 1);
	config_fd = memfd_create("conf", MFD_CLOEXEC);
	must(config_fd >= 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", config_fd);
	return 0;
}

/* ---- one run -------------------------------------------------------------------------------- */

/* A command line: owned strings, "--config=" of our file first, so that no other one is read. */
struct command {
	char *argv[FLAGS_MAX + 1];
	int argc;
};

static void add(struct command *c, char *arg)
{
	must(arg != NULL);
	if (c->argc < FLAGS_MAX)
		c->argv[c->argc++] = arg;
	else
		free(arg);
}

__attribute__((format(printf, 2, 3))) static void addf(struct command *c, const char *fmt, ...)
{
	char *arg;
	va_list ap;

	va_start(ap, fmt);
	must(vasprintf(&arg, fmt, ap) >= 0);
	va_end(ap);
	add(c, arg);
}

static struct command command_new(void)
{
	struct command c = { .argc = 0 };

	addf(&c, "synfind");
	addf(&c, "--config=%s", path);
	return c;
}

static void command_free(struct command *c)
{
	for (int i = 0; i < c->argc; i++)
		free(c->argv[i]);
}

/* Parses, with what is printed in @ret_out (the caller frees it) and the errors in `errors`. */
static int run(struct command *c, const void *file, size_t n, struct options *ret, char **ret_out)
{
	char *argv[FLAGS_MAX + 1]; /* getopt_long() may move them about */
	FILE *saved = stdout;
	size_t len;
	int r;

	must(ftruncate(config_fd, 0) == 0 && pwrite(config_fd, file, n, 0) == (ssize_t)n);
	memcpy(argv, c->argv, sizeof argv);
	argv[c->argc] = NULL;
	errors_len = 0;
	stdout = open_memstream(ret_out, &len);
	must(stdout != NULL);
	r = options_parse(c->argc, argv, ret);
	fclose(stdout);
	stdout = saved;
	errors[errors_len] = '\0';
	return r;
}

/* ---- what a refusal says -------------------------------------------------------------------- */

/* What is after "@file:N" at @s, N one of @lines; NULL: it begins otherwise. */
static const char *after_place(const char *s, const char *file, size_t lines)
{
	size_t n = strlen(file);
	unsigned long line;
	char *end;

	if (strncmp(s, file, n) || s[n] != ':' || !isdigit((unsigned char)s[n + 1]))
		return NULL;
	line = strtoul(s + n + 1, &end, 10);
	must(line >= 1 && line <= lines);
	return end;
}

/* What is after "--name", "--no-name", "-c" at @s. */
static const char *after_flag(const char *s)
{
	char *unknown = strstr(s, ": unknown option"); /* its name may be anything */

	return *s != '-' ? NULL : unknown ? unknown : strstr(s, ": ");
}

/* Each error says where and why.  @lines: of the file, and one for its end. */
static void check_errors(size_t lines)
{
	static const char head[] = "synfind: error: ";
	unsigned n = 0;

	for (char *s = errors, *end; *s; s = end + 1) {
		const char *rest;

		end = strchr(s, '\n');
		must(end != NULL);
		*end = '\0';
		for (unsigned n_octets = 0, i = 0; s[i]; i += n_octets) {
			n_octets = strbuf_utf8_length(s + i);
			must(n_octets && (unsigned char)s[i] >= 0x20 && s[i] != 0x7f);
		}
		if (!strncmp(s, "synfind: warning: ", 18))
			continue;
		must(!strncmp(s, head, strlen(head)));
		s += strlen(head);
		if (++n > ERRORS_SHOWN) {
			must(isdigit((unsigned char)*s) && strstr(s, " more errors"));
			continue;
		}
		rest = after_place(s, path, lines);
		if (!rest)
			rest = after_place(s, "/", 1); /* --config=/ */
		if (!rest)
			rest = after_flag(s);
		if (!rest && *s == '\'')
			rest = strstr(s, ": unexpected argument; ");
		must(rest && !strncmp(rest, ": ", 2) && rest[2] && rest[2] != ' ');
	}
	must(n > 0 && n <= ERRORS_SHOWN + 1);
}

/* ---- what is accepted ----------------------------------------------------------------------- */

static uint64_t number_of(const struct options *o, const struct opt *opt)
{
	const void *p = (const char *)o + opt->offset;

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

static const char *string_of(const struct options *o, const struct opt *opt)
{
	return *(char *const *)((const char *)o + opt->offset);
}

static bool is_names(const struct opt *opt)
{
	return opt->type == OPT_LIST || opt->type == OPT_FILES;
}

static const struct name_list *list_of(const struct options *o, const struct opt *opt)
{
	return (const struct name_list *)((const char *)o + opt->offset);
}

static const struct id_list *ids_of(const struct options *o, const struct opt *opt)
{
	return (const struct id_list *)((const char *)o + opt->offset);
}

static bool is_number(const struct opt *opt)
{
	return opt->type == OPT_NUMBER || opt->type == OPT_SIZE || opt->type == OPT_TIME ||
	       opt->type == OPT_MODE;
}

/* The word that @v stands for, as the table spells it. */
static void word_text(const struct opt *opt, uint64_t v, char ret[static 64])
{
	const char *w = opt->value;

	while (v--) {
		w = strchr(w, '|');
		must(w != NULL);
		w++;
	}
	snprintf(ret, 64, "%.*s", (int)strcspn(w, "|"), w);
}

static void check_values(const struct options *o)
{
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		uint64_t v = is_number(opt) ? number_of(o, opt) : 0;

		if (is_number(opt)) {
			must((v >= opt->min && v <= opt->max) || (opt->zero && v == 0));
			must(!opt->power_of_two || !(v & (v - 1)));
		} else if (opt->type == OPT_STRING) {
			const char *s = string_of(o, opt);

			must(!s || (*s && strlen(s) <= opt->max));
		} else if (opt->type == OPT_LIST) {
			const struct name_list *list = list_of(o, opt);

			must(list->n && !list->names[list->n]);
			for (char **s = list->names; *s; s++)
				must(**s && strlen(*s) <= 64 && !strpbrk(*s, " \t\n/:,"));
		} else if (opt->type == OPT_FILES) {
			const struct name_list *list = list_of(o, opt);

			for (size_t i = 0; i < list->n; i++)
				must(*list->names[i] && strlen(list->names[i]) <= opt->max);
		} else if (opt->type == OPT_KINDS) {
			must((o->events & LINES_ALWAYS) == LINES_ALWAYS);
			must(!(o->events & ~LINES_ALL));
		} else if (opt_is_list(opt)) {
			const struct id_list *l = ids_of(o, opt);

			for (size_t i = 0; i < l->n; i++)
				must(l->ids[i] != UINT32_MAX);
		}
	}
	must(o->ring_size_bytes % o->ring_block_size_bytes == 0 &&
	     o->ring_size_bytes / o->ring_block_size_bytes >= 2);
	must(!o->quiet || o->read_files.n || o->check);
}

static void check_same(const struct options *a, const struct options *b, bool flags_too)
{
	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		if (opt->type >= OPT_CONFIG || (opt->section == FLAGS_ONLY && !flags_too))
			continue;
		if (opt->type == OPT_STRING) {
			const char *s = string_of(a, opt), *t = string_of(b, opt);

			must(s && t ? !strcmp(s, t) : s == t);
		} else if (is_names(opt)) {
			const struct name_list *s = list_of(a, opt), *t = list_of(b, opt);

			must(s->n == t->n);
			for (size_t i = 0; i < s->n; i++)
				must(!strcmp(s->names[i], t->names[i]));
		} else if (opt_is_list(opt) && opt->type != OPT_KINDS) {
			const struct id_list *s = ids_of(a, opt), *t = ids_of(b, opt);

			must(s->n == t->n &&
			     (!s->n || !memcmp(s->ids, t->ids, s->n * sizeof *s->ids)));
		} else {
			must(number_of(a, opt) == number_of(b, opt));
		}
	}
}

/* Can a line of the file give @text?  A flag's value may have control octets, blanks at its ends,
 * or what begins a comment. */
static bool fits_file(const struct opt *opt, const char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f ||
		    (text[i] == ';' && (i == 0 || isspace((unsigned char)text[i - 1]))))
			return false;
	return strlen(opt->name) + 3 + n <= LINE_OCTETS &&
	       (!n || (!isspace((unsigned char)text[0]) && !isspace((unsigned char)text[n - 1])));
}

/* Writes @opt's value as a flag and, if it can be there, as a line of the file.  False: it
 * cannot. */
static bool print_one(const struct opt *opt, const char *text, struct command *c, FILE *f)
{
	addf(c, "--%s=%s", opt->name, text);
	if (opt->section == FLAGS_ONLY)
		return true;
	fprintf(f, "%s = %s\n", opt->name, text);
	return fits_file(opt, text);
}

/* As print_one(), of a list of numbers: a line for each, one flag for all. */
static bool print_ids(const struct opt *opt, const struct id_list *l, struct command *c, FILE *f)
{
	char *text;
	size_t n;
	FILE *t = open_memstream(&text, &n);

	must(t != NULL);
	for (size_t i = 0; i < l->n; i++) {
		fprintf(t, "%s%u", i ? "," : "", l->ids[i]);
		fprintf(f, "%s = %u\n", opt->name, l->ids[i]);
	}
	must(fclose(t) == 0);
	addf(c, "--%s=%s", opt->name, text);
	free(text);
	return true;
}

/* As print_one(), of a set of kinds of line: a line for each, one flag for all. */
static bool print_kinds(const struct opt *opt, uint32_t kinds, struct command *c, FILE *f)
{
	char text[512];
	size_t n = 0;

	for (unsigned k = 0; k < LINE_KINDS; k++)
		if (kinds & 1u << k) {
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? "," : "",
					      line_kind_name(k));
			fprintf(f, "%s = %s\n", opt->name, line_kind_name(k));
		}
	addf(c, "--%s=%s", opt->name, text);
	return true;
}

/* As print_one(), of all options. */
static bool print_all(const struct options *o, struct command *c, FILE *f)
{
	bool fits = true;

	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++) {
		char word[64];

		if (opt->type >= OPT_CONFIG)
			continue;
		if (o->read_files.n && !strcmp(opt->name, "decoders")) { /* not as a flag */
			fprintf(f, "decoders = %u\n", o->decoders);
		} else if (is_names(opt)) {
			for (size_t i = 0; i < list_of(o, opt)->n; i++)
				fits &= print_one(opt, list_of(o, opt)->names[i], c, f);
		} else if (opt->type == OPT_KINDS) {
			fits &= print_kinds(opt, o->events, c, f);
		} else if (opt_is_list(opt)) {
			fits &= print_ids(opt, ids_of(o, opt), c, f);
		} else if (opt->type == OPT_STRING) {
			const char *s = string_of(o, opt);

			if (s || opt->min == 0)
				fits &= print_one(opt, s ? s : "", c, f);
		} else if (opt->type == OPT_WORD) {
			word_text(opt, number_of(o, opt), word);
			fits &= print_one(opt, word, c, f);
		} else if (opt->type == OPT_BOOL) {
			fits &= print_one(opt, number_of(o, opt) ? "yes" : "no", c, f);
		} else {
			fits &= print_one(opt, opt_number_text(opt->type, number_of(o, opt)).s, c,
					  f);
		}
	}
	return fits;
}

static void check_again(const struct options *o)
{
	struct command flags = command_new(), none = command_new();
	struct options again = { 0 };
	char *file, *out = NULL, decoders[32];
	size_t n;
	FILE *f = open_memstream(&file, &n);
	bool fits = print_all(o, &flags, f);

	fclose(f);
	if (flags.argc < FLAGS_MAX) {
		snprintf(decoders, sizeof decoders, "decoders = %u\n", o->decoders);
		must(run(&flags, decoders, o->read_files.n ? strlen(decoders) : 0, &again, &out) ==
		     0);
		check_same(o, &again, true);
		options_free(&again);
		free(out);
	}
	if (fits) {
		must(run(&none, file, n, &again, &out) == 0 && !errors_len);
		check_same(o, &again, false);
		options_free(&again);
		free(out);
	}
	free(file);
	command_free(&flags);
	command_free(&none);
}

/* ---- the input ------------------------------------------------------------------------------ */

/* The flags at the beginning of the input, up to an empty line.  Returns how many octets they are.
 * Files other than ours are not for a fuzzer to read, but for these. */
static size_t read_flag_lines(struct command *c, const char *in, size_t n)
{
	static const char *const harmless[] = { "--config=/", "--config=/nonexistent",
						"--config=/dev/null" };
	size_t at = 0;

	while (at < n) {
		const char *end = memchr(in + at, '\n', n - at);
		size_t len = end ? (size_t)(end - (in + at)) : n - at;
		char *arg = strndup(in + at, len);
		bool fine = strncmp(arg, "--config", 8) || (arg[8] && arg[8] != '=');

		at += len + (end != NULL);
		for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
			fine |= !strcmp(arg, harmless[i]);
		if (fine && *arg)
			add(c, arg);
		else
			free(arg);
		if (!len)
			break;
	}
	return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	struct command c = command_new();
	size_t at = read_flag_lines(&c, (const char *)in, n), lines = 1;
	struct options o, untouched;
	char *out = NULL;
	int r;

	for (size_t i = at; i < n; i++)
		lines += in[i] == '\n';
	memset(&o, 0x55, sizeof o);
	untouched = o;
	r = run(&c, in + at, n - at, &o, &out);
	must(r == 0 || r == 1 || r == -EINVAL);
	must(!!*out == (r == 1));
	if (r == -EINVAL)
		check_errors(lines);
	else
		must(!strstr(errors, "error:"));
	if (r != 0)
		must(!memcmp(&o, &untouched, sizeof o));
	free(out);
	if (r == 0) {
		check_values(&o);
		if (!o.check)
			check_again(&o);
		options_free(&o);
	}
	command_free(&c);
	return 0;
}
