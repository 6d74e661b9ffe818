#include "synfinctl/cli.h"
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "base/guess.h"
#include "synfinctl/human.h"

enum { FLAGS_MAX = 40, HELP_COLUMN = 28, HELP_WIDTH = 79, FIRST_FLAG = 256 };

int cli_error(enum cli_exit status, const char *fmt, ...)
{
	char message[1024], safe[2 * sizeof message];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	human_safe(safe, sizeof safe, message);
	fflush(stdout);
	fprintf(stderr, "synfinctl: %s\n", safe);
	return (int)status;
}

int cli_parse_time(const char *text, uint64_t *ret)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = {
		{ "", 1e9 },	 { "ns", 1 },	{ "us", 1e3 },	 { "ms", 1e6 },	   { "s", 1e9 },
		{ "min", 60e9 }, { "m", 60e9 }, { "h", 3600e9 }, { "d", 86400e9 },
	};
	char *end;
	double v;

	/* Not "inf", "0x1" or "-1". */
	if (strspn(text, "0123456789.") == 0)
		return -EINVAL;
	v = strtod(text, &end);
	if ((size_t)(end - text) != strspn(text, "0123456789."))
		return -EINVAL;
	for (unsigned i = 0; i < ARRAY_SIZE(units); i++)
		if (!strcmp(end, units[i].name)) {
			if (v * units[i].ns >= 9e18)
				return -EINVAL;
			*ret = (uint64_t)(v * units[i].ns);
			return 0;
		}
	return -EINVAL;
}

static const struct cli_flag common_flags[] = {
	{ "help", 'h', CLI_BOOL, 0, NULL, "Print this and exit.", NULL },
	{ 0 },
};

const struct cli_group cli_common = { "Also", common_flags, 0 };

/* Walks the flags of @c, those of every command last. */
static const struct cli_flag *flag_at(const struct cli_command *c, unsigned i, size_t *ret_offset)
{
	for (const struct cli_group *g = c->groups; g->title; g++)
		for (const struct cli_flag *f = g->flags; f->name; f++)
			if (!i--) {
				*ret_offset = g->offset + f->offset;
				return f;
			}
	*ret_offset = 0;
	return i ? NULL : common_flags;
}

static void help_wrapped(FILE *f, const char *text, unsigned column)
{
	while (*text) {
		size_t n = strcspn(text, " \n");

		if (column + 1 + n > HELP_WIDTH) {
			fprintf(f, "\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
		} else if (column > HELP_COLUMN) {
			putc(' ', f);
			column++;
		}
		fprintf(f, "%.*s", (int)n, text);
		column += (unsigned)n;
		text += n + (text[n] != 0);
	}
	putc('\n', f);
}

static void help_flag(FILE *f, const struct cli_flag *flag)
{
	int n = flag->letter ? fprintf(f, "  -%c, ", flag->letter) : fprintf(f, "      ");

	n += fprintf(f, "--%s%s%s", flag->name, flag->value ? "=" : "",
		     flag->value ? flag->value : "");
	if (n < HELP_COLUMN - 1)
		fprintf(f, "%*s", HELP_COLUMN - n, "");
	else
		fprintf(f, "\n%*s", HELP_COLUMN, "");
	help_wrapped(f, flag->help, HELP_COLUMN);
}

static void help_group(FILE *f, const struct cli_group *g)
{
	fprintf(f, "\n%s:\n", g->title);
	for (const struct cli_flag *flag = g->flags; flag->name; flag++)
		help_flag(f, flag);
}

void cli_help(const struct cli_command *c, FILE *f)
{
	fprintf(f, "Usage: synfinctl %s%s%s [FLAG]...\n%s.\n", c->name, *c->operands ? " " : "",
		c->operands, c->summary);
	if (c->text)
		fprintf(f, "\n%s", c->text);
	fprintf(f, "\nExamples:\n%s", c->examples);
	for (const struct cli_group *g = c->groups; g->title; g++)
		help_group(f, g);
	help_group(f, &cli_common);
}

static int set_word(const struct cli_flag *f, const char *text, unsigned *ret)
{
	unsigned i = 0;

	for (const char *w = f->value;; i++) {
		size_t n = strcspn(w, "|");

		if (strlen(text) == n && !memcmp(w, text, n)) {
			*ret = i;
			return 0;
		}
		if (!w[n])
			return cli_error(CLI_USAGE, "--%s: '%s' is not one of %s", f->name, text,
					 f->value);
		w += n + 1;
	}
}

static int add_items(const struct cli_flag *f, const char *text, struct cli_list *list)
{
	for (;; text++) {
		size_t n = strcspn(text, ",");

		if (!n)
			return cli_error(CLI_USAGE, "--%s: an item of the list is empty", f->name);
		if (list->n == CLI_LIST_MAX)
			return cli_error(CLI_USAGE, "--%s: more than %d items", f->name,
					 CLI_LIST_MAX);
		list->items[list->n] = strndup(text, n);
		if (!list->items[list->n])
			return cli_error(CLI_FAILED, "out of memory");
		list->n++;
		text += n;
		if (!*text)
			return 0;
	}
}

static int set_number(const struct cli_flag *f, const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || !*ret)
		return cli_error(CLI_USAGE, "--%s: '%s' is not a number above 0", f->name, text);
	return 0;
}

/* An exit status; 0: stored. */
static int set(const struct cli_flag *f, void *at, const char *text)
{
	switch (f->type) {
	case CLI_BOOL:
		*(bool *)at = true;
		return 0;
	case CLI_STRING:
		*(const char **)at = text;
		return 0;
	case CLI_LIST:
		return add_items(f, text, at);
	case CLI_TIME:
		if (cli_parse_time(text, at) < 0)
			return cli_error(CLI_USAGE,
					 "--%s: '%s' is not a time, as in 100ms, 1.5s, 10min, 2h",
					 f->name, text);
		return 0;
	case CLI_NUMBER:
		return set_number(f, text, at);
	case CLI_WORD:
		return set_word(f, text, at);
	}
	return 0;
}

static void free_lists(const struct cli_command *c, char *options)
{
	const struct cli_flag *f;
	size_t offset;

	for (unsigned i = 0; (f = flag_at(c, i, &offset)); i++)
		if (f->type == CLI_LIST) {
			struct cli_list *list = (struct cli_list *)(options + offset);

			for (unsigned k = 0; k < list->n; k++)
				free((char *)list->items[k]);
		}
}

static int unknown_flag(const struct cli_command *c, const char *text)
{
	struct guess guess = GUESS_NONE;
	const struct cli_flag *f;
	char name[64];
	size_t offset;

	if (text[0] == '-' && text[1] == '-') {
		snprintf(name, sizeof name, "%.*s", (int)strcspn(text + 2, "="), text + 2);
		for (unsigned i = 0; (f = flag_at(c, i, &offset)); i++)
			guess_offer(&guess, name, "--", f->name, "");
	}
	return cli_error(CLI_USAGE, "%s: no flag '%s'%s (synfinctl %s --help)", c->name, text,
			 guess.text, c->name);
}

/* An exit status, or -1: the command can run with what is left from optind on. */
static int parse(const struct cli_command *c, int argc, char **argv, char *options)
{
	struct option longs[FLAGS_MAX + 1] = { 0 };
	char shorts[2 * FLAGS_MAX + 2] = ":", *s = shorts + 1;
	const struct cli_flag *f, *by_letter[128] = { 0 };
	size_t offset;
	unsigned n = 0;
	int ch, r;

	for (; n < FLAGS_MAX && (f = flag_at(c, n, &offset)); n++) {
		longs[n] =
			(struct option){ f->name, f->type != CLI_BOOL, NULL, FIRST_FLAG + (int)n };
		if (f->letter) {
			by_letter[(unsigned char)f->letter] = f;
			*s++ = f->letter;
			if (f->type != CLI_BOOL)
				*s++ = ':';
		}
	}
	opterr = 0;
	optind = 1;
	while ((ch = getopt_long(argc, argv, shorts, longs, NULL)) >= 0) {
		if (ch == ':')
			return cli_error(CLI_USAGE, "%s: %s needs a value (synfinctl %s --help)",
					 c->name, argv[optind - 1], c->name);
		if (ch == '?') {
			/* optopt is 0 for an unknown long flag, or its value if it takes none. */
			char letter[3] = { '-', (char)optopt, 0 };

			return unknown_flag(c, optopt && optopt < FIRST_FLAG ? letter
									     : argv[optind - 1]);
		}
		for (n = 0; (f = flag_at(c, n, &offset)); n++)
			if (ch == FIRST_FLAG + (int)n || f == by_letter[ch & 127 & -(ch < 128)])
				break;
		if (f == common_flags) {
			cli_help(c, stdout);
			return CLI_FOUND;
		}
		r = set(f, options + offset, optarg);
		if (r)
			return r;
	}
	n = (unsigned)(argc - optind);
	if (n < c->min_operands)
		return cli_error(CLI_USAGE, "%s: %s is missing (synfinctl %s --help)", c->name,
				 c->operands, c->name);
	if (n > c->max_operands)
		return cli_error(CLI_USAGE, "%s: '%s' is too much (synfinctl %s --help)", c->name,
				 argv[optind + (int)c->max_operands], c->name);
	return -1;
}

int cli_run(const struct cli_command *c, int argc, char **argv)
{
	char *options = calloc(1, c->size + 1);
	int r;

	if (!options)
		return cli_error(CLI_FAILED, "out of memory");
	r = parse(c, argc, argv, options);
	if (r < 0)
		r = c->run(options, argv + optind);
	free_lists(c, options);
	free(options);
	if (fflush(stdout) && r == CLI_FOUND && errno != EPIPE)
		r = cli_error(CLI_FAILED, "standard output: %s", strerror(errno));
	return r;
}
