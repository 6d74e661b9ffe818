/* where_form.h - the compiled form of an expression; only lib/format/where*.c read it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/event.h"
#include "format/where.h"

/* How a comparison came out, and, ORed, for which outcomes an operator holds. */
enum outcome { LESS = 1, EQUAL = 2, GREATER = 4 };

enum op {
	OP_CONSTANT,	   /* .arg: the truth */
	OP_TRUTH,	   /* a member that is true or false */
	OP_HAS,		   /* ... that is there */
	OP_COMPARE,	   /* ... with literal .arg */
	OP_COMPARE_MEMBER, /* ... with member .arg */
	OP_IN,		   /* ... among the .n literals from .arg on */
	OP_IN_MEMBER,	   /* ... among the items of list .arg */
	OP_LITERAL_IN,	   /* a list that has the literal .arg */
	OP_STARTS,	   /* the text of a member and literal .arg */
	OP_ENDS,
	OP_CONTAINS,
	OP_CIDR, /* network .arg contains the address */
};

/* A term is true or false; then the term of that number is next, or the verdict is known. */
enum { ACCEPT = WHERE_TERMS_MAX, REJECT, NEXT_NONE = 255 };

struct term {
	uint8_t op;
	uint8_t outcomes; /* that make a comparison true */
	uint8_t member;	  /* index in .member */
	uint8_t arg, n;
	uint8_t next[2]; /* if false, if true */
	/* The member is one of a few words: only .words counts, one bit for each word, if it makes
	 * the term true.  For records; in a line it is text. */
	bool by_words;
	/* It compares a number that is always there with an integer.  For records, too. */
	bool by_number;
	uint32_t words;
};

enum literal_type { LITERAL_INTEGER, LITERAL_BOOL, LITERAL_STRING };

struct literal {
	uint8_t type;
	uint8_t ip_v, bits; /* of an address or a network */
	uint16_t at, n;	    /* of a string, in .text */
	union {
		int64_t integer;
		uint8_t addr[16];
	};
};

enum { ROW_NONE = 255 };

/* At least as many as there are members for which member_is_formatted(). */
enum { WHERE_TEXTS = 12 };

struct where {
	uint32_t kinds; /* of event, by bit: it can hold for these */
	unsigned terms, literals, members, used;
	struct term term[WHERE_TERMS_MAX];
	struct literal literal[WHERE_TERMS_MAX];
	struct { /* members that the terms have; rows of member_table[] */
		uint8_t first;
		uint8_t row[EVENT_KINDS]; /* by kind of event, or ROW_NONE */
		uint8_t text;		  /* formatted once for an event: below WHERE_TEXTS */
	} member[2 * WHERE_TERMS_MAX];
	char text[WHERE_TEXT_MAX]; /* strings, without quotes */
};

/* The type of a member (an index in w->member): enum member_type. */
unsigned where_type(const struct where *w, unsigned member);

/* Completes what where_compile() has parsed: .by_words, .words, .by_number and .kinds. */
void where_prepare(struct where *w);
