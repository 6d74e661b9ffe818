#include "format/where_lex.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/strbuf.h"

bool lex_fail(struct lexer *p, unsigned offset, const char *fmt, ...)
{
	va_list ap;

	if (p->failed)
		return false;
	p->failed = true;
	p->error->at = 1;
	for (unsigned i = 0; i < offset; i++)
		p->error->at += ((unsigned char)p->text[i] & 0xc0) != 0x80;
	va_start(ap, fmt);
	vsnprintf(p->error->text, sizeof p->error->text, fmt, ap);
	va_end(ap);
	return false;
}

static bool name_begin(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool lex_name(struct lexer *p)
{
	const char *s = p->text + p->begin;
	unsigned n = 1;

	while (name_begin(s[n]) || lex_digit(s[n]) || (s[n] == '.' && name_begin(s[n + 1])))
		n++;
	p->len = n;
	p->token = T_NAME;
	if (n == 4 && !memcmp(s, "true", n))
		p->token = T_TRUE;
	else if (n == 5 && !memcmp(s, "false", n))
		p->token = T_FALSE;
	else if (n == 2 && !memcmp(s, "in", n))
		p->token = T_IN;
	return true;
}

/* Decimal or 0x; a minus sign directly before it. */
static bool lex_integer(struct lexer *p)
{
	const char *s = p->text + p->begin;
	bool hex = false, minus = *s == '-';
	char *end;

	hex = s[minus] == '0' && (s[minus + 1] | 0x20) == 'x';
	if (!lex_digit(s[minus]) || (hex && !isxdigit((unsigned char)s[minus + 2])))
		return lex_fail(p, p->begin, "a number needs digits");
	errno = 0;
	p->integer = strtoll(s, &end, hex ? 16 : 10);
	if (errno)
		return lex_fail(p, p->begin, "the number is out of range");
	if (*end == '.' && lex_digit(end[1]))
		return lex_fail(p, p->begin, "only whole numbers");
	if (name_begin(*end) || lex_digit(*end))
		return lex_fail(p, p->begin, "a number ends in a letter");
	p->token = T_INTEGER;
	p->len = (unsigned)(end - s);
	return true;
}

static bool lex_string(struct lexer *p)
{
	static const char escape[] = "\\\"'`?abfnrtv", meaning[] = "\\\"'`?\a\b\f\n\r\t\v";
	const char *s = p->text + p->begin, quote = *s;
	unsigned i = 1;

	p->token = T_STRING;
	p->at = p->used;
	for (; s[i] != quote; i++) {
		char c = s[i];

		if (!c || c == '\n' || c == '\r')
			return lex_fail(p, p->begin, "the string has no end");
		if (c == '\\') {
			const char *found = s[i + 1] ? strchr(escape, s[i + 1]) : NULL;

			if (!found)
				return lex_fail(
					p, p->begin + i,
					"not an escape; those are \\\\ \\\" \\' \\` \\? \\a \\b "
					"\\f \\n \\r \\t \\v");
			c = meaning[found - escape];
			i++;
		}
		p->strings[p->used++] = c; /* never more than the expression's own text */
	}
	p->n = p->used - p->at;
	p->len = i + 1;
	return true;
}

static bool lex_symbol(struct lexer *p)
{
	static const struct {
		char text[3];
		uint8_t token, outcomes;
	} symbol[] = {
		{ "==", T_COMPARISON, EQUAL },
		{ "!=", T_COMPARISON, LESS | GREATER },
		{ "<=", T_COMPARISON, LESS | EQUAL },
		{ ">=", T_COMPARISON, GREATER | EQUAL },
		{ "&&", T_AND, 0 },
		{ "||", T_OR, 0 },
		{ "<", T_COMPARISON, LESS },
		{ ">", T_COMPARISON, GREATER },
		{ "!", T_NOT, 0 },
		{ "(", T_OPEN, 0 },
		{ ")", T_CLOSE, 0 },
		{ "[", T_BEGIN_LIST, 0 },
		{ "]", T_END_LIST, 0 },
		{ ",", T_COMMA, 0 },
		{ ".", T_DOT, 0 },
	};
	const char *s = p->text + p->begin;

	for (unsigned i = 0; i < ARRAY_SIZE(symbol); i++) {
		unsigned n = (unsigned)strlen(symbol[i].text);

		if (!strncmp(s, symbol[i].text, n)) {
			p->token = symbol[i].token;
			p->outcomes = symbol[i].outcomes;
			p->len = n;
			return true;
		}
	}
	if (*s == '=' || *s == '&' || *s == '|')
		return lex_fail(p, p->begin, "%c must be doubled", *s);
	return lex_fail(p, p->begin, "this character has no meaning here");
}

bool lex_advance(struct lexer *p)
{
	char c;

	if (p->failed)
		return false;
	while (p->text[p->next] && strchr(" \t\n\r\f", p->text[p->next]))
		p->next++;
	p->begin = p->next;
	p->len = 0;
	c = p->text[p->begin];
	if (!c)
		p->token = T_END;
	else if (name_begin(c)		    ? !lex_name(p)
		 : lex_digit(c) || c == '-' ? !lex_integer(p)
		 : c == '\'' || c == '"'    ? !lex_string(p)
					    : !lex_symbol(p))
		return false;
	p->next = p->begin + p->len;
	return true;
}

bool lex_expect(struct lexer *p, enum token t, const char *what)
{
	if (p->token == t)
		return lex_advance(p);
	return lex_fail(p, p->begin, "%s is missing here", what);
}

bool lex_is(const struct lexer *p, const char *name)
{
	return p->len == strlen(name) && !memcmp(p->text + p->begin, name, p->len);
}

bool lex_begin(struct lexer *p, const char *text, size_t n)
{
	const char *nul;

	if (n > WHERE_TEXT_MAX)
		return lex_fail(p, 0, "longer than %d octets", WHERE_TEXT_MAX);
	memcpy(p->text, text, n);
	p->text[n] = '\0';
	nul = memchr(p->text, '\0', n);
	for (unsigned i = 0, len; p->text[i]; i += len) {
		len = strbuf_utf8_length(p->text + i);
		if (!len)
			return lex_fail(p, i, "this is not UTF-8");
	}
	return !nul || lex_fail(p, (unsigned)(nul - p->text), "NUL");
}
