/* reader.h - the events of capture files: runs `synfind --read` as a child, and gives its lines.
 *
 * The program is $SYNFIND; else the synfind beside this program (a build), in ../sbin (installed),
 * or in PATH.  The configuration file is not read: the same file gives the same lines everywhere.
 * On a terminal, standard error shows how far it is if that takes longer than a second. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "synfinctl/lines.h"

enum { READER_ERRORS_MAX = 4096, READER_FLAGS_MAX = 8 };

/* Borrowed until reader_start() returns. */
struct reader_options {
	char *const *files;	  /* ends with NULL; "-" is standard input */
	const char *events;	  /* --events; NULL: all but tcp_segment */
	const char *filter;	  /* --filter, as for tcpdump; NULL: everything */
	const char *const *flags; /* up to READER_FLAGS_MAX others; ends with NULL; NULL: none */
	bool quiet;		  /* its error lines were printed before */
};

struct reader {
	struct lines lines;
	pid_t pid; /* 0: not running */
	int err;   /* its standard error; -1: closed */
	bool at_end, quiet;
	bool progress;	     /* a progress line is on the terminal */
	uint64_t started_ns; /* our clock */
	uint64_t garbage;    /* lines that were not JSON objects; they are skipped */
	json_t *event;	     /* of the line that was given last */
	size_t n;	     /* in errors */
	char errors[READER_ERRORS_MAX];
};

/* Starts it.  CLI_FOUND, or another exit status after an error line. */
int reader_start(struct reader *r, const struct reader_options *o);

/* The next line and its event, borrowed until the next call.  With NULL for the event the line is
 * not parsed, and can be anything.  False: there is none. */
bool reader_next(struct reader *r, const char **ret_line, size_t *ret_n, const json_t **ret_event);

/* Ends it, also before its last line, and frees it; a zeroed one is fine.  CLI_FOUND, or CLI_FAILED
 * after the error lines of synfind: a file is missing or broken.  What came before that is good. */
int reader_end(struct reader *r);
