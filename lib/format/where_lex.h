/* where_lex.h - words of the language of where.h.  Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cc.h"
#include "format/where_form.h"

enum token {
	T_END,
	T_NAME,	   /* with dots */
	T_INTEGER, /* .integer */
	T_STRING,  /* .at, .n in the text of the expression's strings */
	T_TRUE,
	T_FALSE,
	T_IN,
	T_COMPARISON, /* .outcomes */
	T_AND,
	T_OR,
	T_NOT,
	T_OPEN,
	T_CLOSE,
	T_BEGIN_LIST,
	T_END_LIST,
	T_COMMA,
	T_DOT,
};

struct lexer {
	struct where_error *error; /* borrowed */
	bool failed;
	char *strings; /* borrowed: octets of strings, WHERE_TEXT_MAX of space */
	unsigned used; /* octets there */
	char text[WHERE_TEXT_MAX + 1];
	unsigned next; /* offset of what comes after the token */
	/* the token */
	enum token token;
	unsigned begin, len;
	int64_t integer;
	unsigned outcomes;
	unsigned at, n;
};

static inline bool lex_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Begins with @text, which must be UTF-8 without NULs; reads no token yet. */
bool lex_begin(struct lexer *p, const char *text, size_t n);

/* Reads the next token. */
bool lex_advance(struct lexer *p);

/* Reads the next token, if this one is @t, else says that @what is missing. */
bool lex_expect(struct lexer *p, enum token t, const char *what);

/* Is the token that name? */
bool lex_is(const struct lexer *p, const char *name);

/* Sets the error, unless there is one, to the character at @offset, in octets.  Returns false. */
__attribute__((format(printf, 3, 4))) COLD bool lex_fail(struct lexer *p, unsigned offset,
							 const char *fmt, ...);
