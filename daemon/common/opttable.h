/* opttable.h - the table of options, and how values are parsed and printed.
 *
 * A new option is a new row (and N_OPT).  options.c knows where values come from, which one wins,
 * what must fit together, and how errors are reported.  This half logs nothing: it returns the
 * cause as text. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options;

#define DEFAULT_CONFIG "/etc/synfind/synfind.conf"

enum { OPT_MESSAGE_MAX = 256, N_OPT = 54 };

enum opt_type {
	OPT_NUMBER,
	OPT_SIZE,
	OPT_TIME,
	OPT_TIMES, /* as many as the field holds, ascending; the others are 0 */
	OPT_MODE,
	OPT_BOOL,
	OPT_WORD,
	OPT_STRING,
	OPT_LIST,
	OPT_FILES, /* one path each time */
	OPT_KINDS, /* a set of enum line_kind */
	OPT_USERS, /* by name or number */
	OPT_GROUPS,
	/* options_parse() handles these; they have no field.  OPT_CONFIG takes a value. */
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

/* What a reload can change: not it; it, by opening new rings (with mode=auto not decap and icmp);
 * it. */
enum opt_reload { AT_START, RINGS, LIVE };

/* Index: enum section. */
struct opt_section {
	const char *name;  /* [name] in the file; NULL: not in the file */
	const char *title; /* in --help */
};

/* A name in the file is also the flag --name; a bool has --no-name as well. */
struct opt {
	const char *name;
	enum section section;
	enum opt_reload reload;
	enum opt_type type;
	size_t offset;	     /* of the field in struct options */
	unsigned octets;     /* of it */
	uint64_t min, max;   /* of the value; of the length of a string */
	uint64_t unit;	     /* OPT_TIME: of a plain number */
	const char *initial; /* the default, as text; NULL: none */
	/* Its name in --help; OPT_WORD: the words, divided by '|'.  NULL: the flag needs no value,
	 * but a bool may have one: --name=yes. */
	const char *value;
	const char *help;
	bool power_of_two;
	bool zero;   /* 0 is allowed although it is below min */
	char letter; /* short flag */
};

/* A list grows with each line and flag that names it. */
static inline bool opt_is_list(const struct opt *opt)
{
	return opt->type >= OPT_LIST && opt->type <= OPT_GROUPS;
}

extern const struct opt_section opt_sections[N_SECTION];
extern const struct opt opts[]; /* N_OPT rows, in the order of --help */

/* The row of that name, or NULL. */
const struct opt *opt_find(const char *name);

/* Parses @text into @opt's field of @o; a list grows by it.  0; -EINVAL or -ENOMEM with the cause,
 * and what is allowed, in @reterr.  On failure the value is unchanged, but a list keeps the names
 * before the wrong one. */
int opt_set(const struct opt *opt, const char *text, struct options *o,
	    char reterr[static OPT_MESSAGE_MAX]);

/* Frees a string or a list and makes it empty; does nothing to other options. */
void opt_clear(const struct opt *opt, struct options *o);

/* Copies the value from @running to @fresh: 1; 0 if it is the same; or -ENOMEM.  Not for lists. */
int opt_keep(const struct opt *opt, struct options *fresh, const struct options *running);

struct number_text {
	char s[32];
};

/* @v as a user would write it: 64M, 10min, 0660. */
struct number_text opt_number_text(enum opt_type type, uint64_t v);

/* Writes @opt's value as a user would; items of a list are divided by commas.  False: it was cut
 * to @size octets, NUL included.  Not for OPT_CONFIG and what follows it. */
bool opt_value_text(const struct opt *opt, const struct options *o, char *ret, size_t size);

struct quoted {
	char s[64];
};

/* A user's text for a message, in quotes.  Long text is cut, so that the cause stays visible. */
struct quoted opt_quoted(const char *text);
