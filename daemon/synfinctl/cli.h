/* cli.h - commands and their flags: one table drives parsing, --help and shell completion.
 *
 * A command has groups of flags.  A group fills one struct, which is a member of the command's
 * options; so commands share the groups "which connections" and "how to print".  Pure but for
 * standard output and standard error. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What a script can rely on. */
enum cli_exit {
	CLI_FOUND = 0,
	CLI_NOTHING = 1, /* there is no such connection or event; doctor: something is wrong */
	CLI_USAGE = 2,
	CLI_NO_DAEMON = 3,
	CLI_FAILED = 4, /* a file, the output or memory */
};

enum cli_type {
	CLI_BOOL,   /* bool */
	CLI_STRING, /* const char *, borrowed from argv */
	CLI_LIST,   /* struct cli_list; divided by commas, or repeated */
	CLI_TIME,   /* uint64_t, nanoseconds */
	CLI_NUMBER, /* uint64_t, above 0 */
	CLI_WORD,   /* unsigned: the place in the words, from 0 */
};

enum { CLI_LIST_MAX = 32, CLI_TEXT_MAX = 256 };

struct cli_list {
	unsigned n;
	const char *items[CLI_LIST_MAX]; /* owned: cli_list_free() */
};

struct cli_flag {
	const char *name;
	char letter; /* 0: none */
	enum cli_type type;
	size_t offset;	   /* of its value in the struct of the group */
	const char *value; /* name of the value in --help; CLI_WORD: the words, divided by '|' */
	const char *help;
	/* What completes the value: words divided by '|', or "file".  NULL: nothing. */
	const char *complete;
};

struct cli_group {
	const char *title;	      /* in --help */
	const struct cli_flag *flags; /* ends with a NULL name */
	size_t offset;		      /* of its struct in the command's options */
};

struct cli_command {
	const char *name;
	const char *operands; /* in the usage line; "" if it takes none */
	unsigned min_operands, max_operands;
	const char *complete; /* of the operands; see cli_flag */
	const char *summary;  /* one line without a full stop */
	const char *text;     /* paragraphs of --help after the summary; ends with a newline */
	const char *examples; /* indented lines; each ends with a newline */
	const struct cli_group *groups; /* ends with a NULL title */
	size_t size;			/* of the options, zeroed before parsing */
	/* Operands end with NULL.  Returns an exit status. */
	int (*run)(const void *options, char **operands);
};

/* All commands; ends with NULL. */
extern const struct cli_command *const cli_commands[];

/* Parses the arguments after the command's name and runs it.  Returns an exit status. */
int cli_run(const struct cli_command *c, int argc, char **argv);

/* Prints one error line, "synfinctl: ...", without control characters.  Returns @status. */
__attribute__((format(printf, 2, 3))) int cli_error(enum cli_exit status, const char *fmt, ...);

/* Nanoseconds of "100ms", "1.5s", "10min", "2h", "7d"; a plain number is in seconds.  0, or
 * -EINVAL. */
int cli_parse_time(const char *text, uint64_t *ret);

/* Prints the --help of @c. */
void cli_help(const struct cli_command *c, FILE *f);

/* The flags that every command has. */
extern const struct cli_group cli_common;
