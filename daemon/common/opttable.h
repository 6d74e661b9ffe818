/* opttable.h - which options there are, and what their values are, as numbers and as text.
 *
 * Each row says all of one option: a new one is a new row (and N_OPT).  What a row does not say, in
 * options.c: where values come from, which of them counts, what must fit together, how errors are
 * told.  Neither half logs for the other: what is wrong with a value comes back as text. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options;

#define DEFAULT_CONFIG "/etc/synfind/synfind.conf"

enum { OPT_MESSAGE_MAX = 256, N_OPT = 49 };

enum opt_type {
	OPT_BOOL,
	OPT_NUMBER,
	OPT_SIZE,
	OPT_TIME,
	OPT_MODE,
	OPT_WORD,
	OPT_STRING,
	OPT_LIST,
	OPT_USERS, /* by name or number */
	OPT_GROUPS,
	/* Answered by options_parse() itself, no field; OPT_CONFIG takes a value. */
	OPT_CONFIG,
	OPT_CHECK,
	OPT_HELP,
	OPT_VERSION,
};

enum section {
	CAPTURE,
	TRACKING,
	EVENTS,
	DAEMON,
	FLAGS_ONLY,
	N_SECTION,
};

/* Index: enum section. */
struct opt_section {
	const char *name;  /* [name] in the file; NULL: not for the file */
	const char *title; /* in --help */
};

/* A name in the file is also the flag --name; a bool is --name and --no-name as well. */
struct opt {
	const char *name;
	enum section section;
	enum opt_type type;
	size_t offset;	     /* of the field in struct options */
	uint64_t min, max;   /* of the value; of the length of a string */
	const char *initial; /* the default, parsed like anything else; NULL: none */
	const char *value;   /* how --help calls it; OPT_WORD: the words, divided by '|' */
	const char *help;
	uint64_t unit; /* OPT_TIME: what a plain number counts */
	bool power_of_two;
	bool zero;   /* 0 is allowed too, below min */
	bool live;   /* a reload can change it */
	bool ring;   /* a reload can, by other rings; but not with mode=auto */
	char letter; /* short flag */
};

/* Lists grow with each line and flag that names them. */
static inline bool opt_is_list(const struct opt *opt)
{
	return opt->type >= OPT_LIST && opt->type <= OPT_GROUPS;
}

extern const struct opt_section opt_sections[N_SECTION];
extern const struct opt opts[]; /* N_OPT of them, as --help shows them */

/* The row of that name, or NULL. */
const struct opt *opt_find(const char *name);

/* Is the flag followed by a value?  (A bool may have one: --name=yes.) */
bool opt_takes_value(const struct opt *opt);

/* Parses @text into @opt's field of @o; a list grows by it.  Returns 0; -EINVAL, or -ENOMEM: the
 * value stays as it was (of a list, what came before the wrong name is kept) and @reterr says what
 * is wrong and what is allowed, without the name. */
int opt_set(const struct opt *opt, const char *text, struct options *o,
	    char reterr[static OPT_MESSAGE_MAX]);

/* Frees a string or a list, which is NULL then; nothing to do for the others. */
void opt_clear(const struct opt *opt, struct options *o);

/* Gives @fresh the value that @running has: 1, or 0 if it was the same, or -ENOMEM.  Not for
 * lists. */
int opt_keep(const struct opt *opt, struct options *fresh, const struct options *running);

struct number_text {
	char s[32];
};

/* @v as a user would write it: 64M, 10min, 0660. */
struct number_text opt_number_text(enum opt_type type, uint64_t v);

struct quoted {
	char s[64];
};

/* A user's text within a message: long ones are cut, so that the rest of the message is seen. */
struct quoted opt_quoted(const char *text);
