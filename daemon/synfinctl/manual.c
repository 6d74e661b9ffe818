#include "synfinctl/manual.h"
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "synfinctl/cli.h"

/* Text: a backslash is one, a line does not begin with a control character. */
static void print_escaped(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if ((s[i] == '.' || s[i] == '\'') && (i == 0 || s[i - 1] == '\n'))
			fputs("\\&", stdout);
		if (s[i] == '\\')
			fputs("\\e", stdout);
		else if (s[i] == '-')
			fputs("\\-", stdout);
		else
			putchar(s[i]);
	}
}

/* Running text: each sentence on a line of its own. */
static void print_text(const char *s)
{
	const char *begin = s;

	for (; *s; s++)
		if (*s == '\n' || ((*s == '.' || *s == ':') && s[1] == ' ' && isupper(s[2]))) {
			print_escaped(begin, (size_t)(s - begin) + (*s != '\n'));
			putchar('\n');
			s += s[0] != '\n';
			begin = s + 1;
		}
	if (s != begin) {
		print_escaped(begin, (size_t)(s - begin));
		putchar('\n');
	}
}

static void print_flag(const struct cli_flag *f)
{
	printf(".It ");
	if (f->letter)
		printf("Fl %c , ", f->letter);
	printf("Fl -%s", f->name);
	if (f->value) {
		printf(" Ns = Ns Ar ");
		print_escaped(f->value, strlen(f->value));
	}
	putchar('\n');
	print_text(f->help);
}

static void print_group(const struct cli_group *g)
{
	printf(".Pp\n%s:\n.Bl -tag -width Ds -compact\n", g->title);
	for (const struct cli_flag *f = g->flags; f->name; f++)
		print_flag(f);
	printf(".El\n");
}

/* Is this group of flags in another command before @c?  Then it is described there. */
static const char *group_seen(const struct cli_command *c, const struct cli_group *g)
{
	for (const struct cli_command *const *p = cli_commands; *p != c; p++)
		for (const struct cli_group *other = (*p)->groups; other->title; other++)
			if (other->flags == g->flags)
				return (*p)->name;
	return NULL;
}

static void print_command(const struct cli_command *c)
{
	bool list = false;

	printf(".Ss %s%s%s\n", c->name, *c->operands ? " " : "", c->operands);
	print_escaped(c->summary, strlen(c->summary));
	puts(".");
	if (c->text)
		print_text(c->text);
	printf(".Bd -literal -offset 2n\n");
	print_escaped(c->examples, strlen(c->examples));
	printf(".Ed\n");
	for (const struct cli_group *g = c->groups; g->title; g++)
		if (!group_seen(c, g))
			print_group(g);
	for (const struct cli_group *g = c->groups; g->title; g++)
		if (group_seen(c, g)) {
			printf(list ? "" : ".Pp\n");
			printf("%s: the flags of\n.Cm %s .\n", g->title, group_seen(c, g));
			list = true;
		}
}

void manual_print(void)
{
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		print_command(*c);
}
