/* print.h - events on standard output: a readable line each, JSON as it came, or chosen members. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "synfinctl/cli.h"
#include "synfinctl/out.h"

struct print_options {
	bool json;
	struct cli_list fields;
	unsigned time;	/* enum print_time */
	unsigned color; /* enum out_color */
};

enum print_time { PRINT_CLOCK, PRINT_UTC, PRINT_DATE, PRINT_RELATIVE, PRINT_DELTA };

extern const struct cli_flag print_flags[];
#define PRINT_GROUP(type, member)                                                                  \
	{                                                                                          \
		"How to print", print_flags, offsetof(type, member)                                \
	}

struct printer {
	const struct print_options *options;
	struct out out;
	uint64_t first_ns, last_ns; /* timestamps; 0: none yet */
	uint64_t lines;		    /* of connections, notices not counted */
	unsigned iface_width, flow_width;
	uint64_t garbage; /* lines that were not JSON objects */
};

/* CLI_FOUND, or an exit status after an error line: no line has such a member. */
int printer_init(struct printer *p, const struct print_options *o);

/* A line, and the event in it (NULL: it is not JSON).  Returns true if it was of a connection. */
bool printer_line(struct printer *p, const char *line, size_t n, const json_t *event);

/* A notice of our own: "!! ..."; on standard error if standard output has JSON or fields. */
void printer_note(struct printer *p, const char *text);

/* Reports at the end what could not be read. */
void printer_done(struct printer *p);
