/* out.h - standard output for people: colours on a terminal only, foreign text without control
 * characters, columns that line up. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "synfinctl/cli.h"

enum out_style { OUT_PLAIN, OUT_GOOD, OUT_BAD, OUT_WARN, OUT_DIM, OUT_BOLD, OUT_STYLES };

enum out_color { OUT_COLOR_AUTO, OUT_COLOR_ALWAYS, OUT_COLOR_NEVER };

/* Flags of commands that print no events. */
struct out_options {
	bool json;
	unsigned color; /* enum out_color */
};

extern const struct cli_flag out_flags[];
#define OUT_GROUP(type, member)                                                                    \
	{                                                                                          \
		"How to print", out_flags, offsetof(type, member)                                  \
	}

struct out {
	FILE *f;
	bool tty, color, utf8;
	unsigned width; /* columns of the terminal; 80 if it is none */
};

/* Output to standard output.  NO_COLOR and TERM=dumb are respected; COLUMNS gives the width where
 * there is no terminal. */
void out_init(struct out *o, enum out_color color);

/* Foreign or own text; it is made safe. */
void out_text(struct out *o, const char *s);

/* The same, formatted; cut at 2 KiB. */
__attribute__((format(printf, 2, 3))) void out_printf(struct out *o, const char *fmt, ...);

/* The same in a style, padded with blanks to @width columns; negative: padded on the left.  Longer
 * text is not cut. */
void out_cell(struct out *o, enum out_style style, int width, const char *s);

/* Text in a style. */
static inline void out_styled(struct out *o, enum out_style style, const char *s)
{
	out_cell(o, style, 0, s);
}

/* A line of JSON of @n octets as it came, and a newline.  To a terminal, DEL and C1 characters are
 * escaped; a C0 character can only be white space, and becomes a blank. */
void out_json_line(struct out *o, const char *line, size_t n);

/* A JSON object on a line of its own, in ASCII.  NULL is allowed and prints nothing. */
void out_json(struct out *o, const json_t *object);

/* Ends the line; flushes on a terminal. */
void out_end(struct out *o);
