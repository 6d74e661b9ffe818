/* sequence.h - a sequence diagram of one connection: two lifelines, and a row for each segment.
 *
 * Text and SVG are drawn from the same rows.  Text fits the width of the output: from 116 columns
 * on the states stand outside the lifelines and the words to the right, below that both stand in a
 * second line under the arrow.  Everything in a row may be foreign text.  Pure, but for the
 * output. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "synfinctl/out.h"

enum sequence_kind {
	SEQUENCE_ARROW,
	SEQUENCE_AGAIN, /* an arrow of what was sent before: dashed */
	SEQUENCE_FOLD,	/* many segments in one row; the label says which */
	SEQUENCE_NOTE,	/* no segment: the words stand between the lifelines */
};

enum { SEQUENCE_STATE = 24, SEQUENCE_LABEL = 112, SEQUENCE_WORDS = 360, SEQUENCE_END = 64 };

struct sequence_row {
	enum sequence_kind kind;
	enum out_style style; /* of the arrow and the words */
	bool to_client;
	uint64_t at_ns;			   /* since the first row */
	uint64_t since_ns;		   /* since the segment before */
	char client_state[SEQUENCE_STATE]; /* after it; "": as before */
	char server_state[SEQUENCE_STATE];
	char label[SEQUENCE_LABEL]; /* on the arrow */
	char brief[SEQUENCE_LABEL]; /* the same, where there is less space */
	char words[SEQUENCE_WORDS]; /* what it means; "": nothing to say */
};

struct sequence_head {
	char client[SEQUENCE_END], server[SEQUENCE_END]; /* 10.9.0.1:46114 */
	char when[2 * SEQUENCE_END];			 /* and where it was seen */
};

struct sequence_text {
	struct out *out; /* borrowed */
	unsigned width;
	bool wide;	  /* states and words outside the lifelines */
	unsigned since_x; /* where the columns begin; 0: there is none */
	unsigned client_x, server_x, words_x;
};

/* Lays out for the width of @out, and prints the head.  ASCII if @out is not UTF-8. */
void sequence_text_begin(struct sequence_text *t, struct out *out,
			 const struct sequence_head *head);

/* Prints a row in one line or more. */
void sequence_text_row(struct sequence_text *t, const struct sequence_row *row);

/* Prints the end of the lifelines, and the outcome. */
void sequence_text_end(struct sequence_text *t, enum out_style style, const char *outcome);

/* A whole SVG document.  Whether it could be written says ferror(@f). */
void sequence_svg(FILE *f, const struct sequence_head *head, const struct sequence_row *rows,
		  size_t n, enum out_style style, const char *outcome);
