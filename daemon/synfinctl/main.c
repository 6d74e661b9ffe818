/* synfinctl: the client for people.  A table of commands; each one has a file. */
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include "base/guess.h"
#include "synfinctl/commands.h"
#include "synfinctl/manual.h"

const struct cli_command *const cli_commands[] = {
	&watch_command,
	&list_command,
	&show_command,
	&ladder_command,
	&report_command,
	&replay_command,
	&status_command,
	&subscribers_command,
	&doctor_command,
	&completion_command,
	NULL,
};

static void help(FILE *f)
{
	fputs("Usage: synfinctl COMMAND [FLAG]...\n"
	      "Ask a running synfind which TCP connections open, fail and close.\n\n",
	      f);
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		fprintf(f, "  %-12s %s\n", (*c)->name, (*c)->summary);
	fputs("\nStart with:\n"
	      "  synfinctl watch              every connection, as it ends\n"
	      "  synfinctl watch --failed     only what fails, as it fails\n"
	      "  synfinctl list               what is open now\n"
	      "\nMore:  synfinctl COMMAND --help, man synfinctl\n"
	      "Exit status: 0 found, 1 nothing found, 2 usage, 3 no daemon, 4 other errors\n",
	      f);
}

static int unknown_command(const char *name)
{
	struct guess guess = GUESS_NONE;

	for (const struct cli_command *const *c = cli_commands; *c; c++)
		guess_offer(&guess, name, "", (*c)->name, "");
	return cli_error(CLI_USAGE, "no command '%s'%s (synfinctl --help)", name, guess.text);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	setlocale(LC_CTYPE, "");
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
		help(stdout);
		return CLI_FOUND;
	}
	if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
		puts("synfinctl " SYNFIND_VERSION);
		return CLI_FOUND;
	}
	if (!strcmp(name, "--mdoc")) { /* for the build */
		manual_print();
		return CLI_FOUND;
	}
	if (!*name) {
		help(stderr);
		return CLI_USAGE;
	}
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		if (!strcmp((*c)->name, name))
			return cli_run(*c, argc - 1, argv + 1);
	return unknown_command(name);
}
