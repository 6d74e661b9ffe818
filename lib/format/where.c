#include "format/where.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "base/guess.h"
#include "base/strbuf.h"
#include "format/line.h"
#include "format/member.h"

/* ---- the compiled form ----------------------------------------------------------------------- */

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

struct where {
	unsigned terms, literals, members, used;
	struct term term[WHERE_TERMS_MAX];
	struct literal literal[WHERE_TERMS_MAX];
	struct { /* members that the terms have; rows of member_table[] */
		uint8_t first;
		uint8_t row[EVENT_KINDS]; /* by kind of event, or ROW_NONE */
	} member[2 * WHERE_TERMS_MAX];
	char text[WHERE_TEXT_MAX]; /* strings, without quotes */
};

/* ---- evaluation ------------------------------------------------------------------------------ */

/* What is evaluated: a record, or, if .event is NULL, members found in a line. */
struct subject {
	const struct event *event;
	uint64_t seq;
	const struct json_context *context;
	const struct line_member *line;
};

static bool value_of(const struct where *w, unsigned member, const struct subject *s,
		     struct member_value *ret)
{
	if (!s->event) {
		const struct line_member *m = &s->line[member];

		return m->n &&
		       member_of_text(&member_table[w->member[member].first], m->text, m->n, ret);
	}

	unsigned row = w->member[member].row[s->event->kind];

	return row != ROW_NONE &&
	       member_of_event(&member_table[row], s->event, s->seq, s->context, ret);
}

static unsigned type_of(const struct where *w, unsigned member)
{
	return member_table[w->member[member].first].type;
}

static enum outcome outcome_of(int difference)
{
	return difference < 0 ? LESS : difference ? GREATER : EQUAL;
}

static enum outcome compare_texts(const char *a, size_t na, const char *b, size_t nb)
{
	int d = memcmp(a, b, na < nb ? na : nb);

	return outcome_of(d ? d : (na > nb) - (na < nb));
}

static enum outcome compare_addresses(unsigned va, const uint8_t *a, unsigned vb, const uint8_t *b)
{
	return va == vb && !memcmp(a, b, va == 4 ? 4 : 16) ? EQUAL : LESS;
}

static enum outcome compare_literal(const struct where *w, unsigned type,
				    const struct member_value *v, const struct literal *l)
{
	switch (type) {
	case MEMBER_INTEGER:
		return outcome_of((v->integer > l->integer) - (v->integer < l->integer));
	case MEMBER_BOOL:
		return outcome_of(v->truth - (int)l->integer);
	case MEMBER_ADDRESS:
		return compare_addresses(v->ip_v, v->addr, l->ip_v, l->addr);
	default:
		return compare_texts(v->text, v->n, w->text + l->at, l->n);
	}
}

static enum outcome compare_values(unsigned type, const struct member_value *a,
				   const struct member_value *b)
{
	switch (type) {
	case MEMBER_INTEGER:
		return outcome_of((a->integer > b->integer) - (a->integer < b->integer));
	case MEMBER_BOOL:
		return outcome_of(a->truth - b->truth);
	case MEMBER_ADDRESS:
		return compare_addresses(a->ip_v, a->addr, b->ip_v, b->addr);
	default:
		return compare_texts(a->text, a->n, b->text, b->n);
	}
}

static bool compare_members(const struct where *w, const struct term *t, const struct subject *s,
			    const struct member_value *a)
{
	struct member_value b;

	return value_of(w, t->arg, s, &b) &&
	       t->outcomes & compare_values(type_of(w, t->member), a, &b);
}

static bool has_item(const struct member_value *list, int64_t n)
{
	for (unsigned i = 0; i < list->items; i++)
		if (list->item[i] == n)
			return true;
	return false;
}

static bool in_member(const struct where *w, const struct term *t, const struct subject *s,
		      const struct member_value *v)
{
	struct member_value list;

	return value_of(w, t->arg, s, &list) && has_item(&list, v->integer);
}

static bool in_literals(const struct where *w, const struct term *t, const struct member_value *v)
{
	unsigned type = type_of(w, t->member);

	for (unsigned i = 0; i < t->n; i++)
		if (compare_literal(w, type, v, &w->literal[t->arg + i]) == EQUAL)
			return true;
	return false;
}

static bool holds_text(const struct where *w, const struct term *t, struct member_value *v)
{
	const struct literal *l = &w->literal[t->arg];
	const char *want = w->text + l->at;

	if (type_of(w, t->member) == MEMBER_ADDRESS)
		member_address_text(v);
	if (t->op == OP_CONTAINS)
		return memmem(v->text, v->n, want, l->n);
	return v->n >= l->n &&
	       !memcmp(t->op == OP_STARTS ? v->text : v->text + v->n - l->n, want, l->n);
}

static bool in_network(const struct literal *net, const struct member_value *v)
{
	unsigned octets = net->bits / 8, rest = net->bits % 8;

	return net->ip_v == v->ip_v && !memcmp(net->addr, v->addr, octets) &&
	       (!rest || !((net->addr[octets] ^ v->addr[octets]) >> (8 - rest)));
}

static bool term_holds(const struct where *w, const struct term *t, const struct subject *s)
{
	struct member_value v;

	if (t->op == OP_CONSTANT)
		return t->arg;
	if (!value_of(w, t->member, s, &v))
		return false;
	switch ((enum op)t->op) {
	case OP_CONSTANT:
	case OP_HAS:
		return true;
	case OP_TRUTH:
		return v.truth;
	case OP_COMPARE:
		return t->outcomes &
		       compare_literal(w, type_of(w, t->member), &v, &w->literal[t->arg]);
	case OP_COMPARE_MEMBER:
		return compare_members(w, t, s, &v);
	case OP_IN:
		return in_literals(w, t, &v);
	case OP_IN_MEMBER:
		return in_member(w, t, s, &v);
	case OP_LITERAL_IN:
		return has_item(&v, w->literal[t->arg].integer);
	case OP_STARTS:
	case OP_ENDS:
	case OP_CONTAINS:
		return holds_text(w, t, &v);
	case OP_CIDR:
		return in_network(&w->literal[t->arg], &v);
	}
	return false;
}

/* Each step goes to a later term. */
static bool evaluate(const struct where *w, const struct subject *s)
{
	unsigned i = 0;

	while (i < w->terms)
		i = w->term[i].next[term_holds(w, &w->term[i], s)];
	return i == ACCEPT;
}

bool where_event(const struct where *w, const struct event *e, uint64_t seq,
		 const struct json_context *c)
{
	return e->kind < EVENT_KINDS &&
	       evaluate(w, &(struct subject){ .event = e, .seq = seq, .context = c });
}

bool where_line(const struct where *w, const char *line, size_t n)
{
	struct line_member found[ARRAY_SIZE(w->member)];

	for (unsigned i = 0; i < w->members; i++) {
		found[i].path = member_table[w->member[i].first].path;
		found[i].path_len = (unsigned)strlen(found[i].path);
	}
	return line_find(line, n, found, w->members) &&
	       evaluate(w, &(struct subject){ .line = found });
}

/* ---- words of the language ------------------------------------------------------------------- */

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

struct parser {
	struct where *w;
	struct where_error *error;
	bool failed;
	char text[WHERE_TEXT_MAX + 1];
	unsigned next; /* offset of what comes after the token */
	/* the token */
	enum token token;
	unsigned begin, len;
	int64_t integer;
	unsigned outcomes;
	unsigned at, n;
};

/* The first error stays.  @offset: in octets. */
__attribute__((format(printf, 3, 4))) COLD static bool fail(struct parser *p, unsigned offset,
							    const char *fmt, ...)
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

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool lex_name(struct parser *p)
{
	const char *s = p->text + p->begin;
	unsigned n = 1;

	while (name_begin(s[n]) || digit(s[n]) || (s[n] == '.' && name_begin(s[n + 1])))
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
static bool lex_integer(struct parser *p)
{
	const char *s = p->text + p->begin;
	bool hex = false, minus = *s == '-';
	char *end;

	hex = s[minus] == '0' && (s[minus + 1] | 0x20) == 'x';
	if (!digit(s[minus]) || (hex && !isxdigit((unsigned char)s[minus + 2])))
		return fail(p, p->begin, "a number needs digits");
	errno = 0;
	p->integer = strtoll(s, &end, hex ? 16 : 10);
	if (errno)
		return fail(p, p->begin, "the number is out of range");
	if (*end == '.' && digit(end[1]))
		return fail(p, p->begin, "only whole numbers");
	if (name_begin(*end) || digit(*end))
		return fail(p, p->begin, "a number ends in a letter");
	p->token = T_INTEGER;
	p->len = (unsigned)(end - s);
	return true;
}

static bool lex_string(struct parser *p)
{
	static const char escape[] = "\\\"'`?abfnrtv", meaning[] = "\\\"'`?\a\b\f\n\r\t\v";
	const char *s = p->text + p->begin, quote = *s;
	struct where *w = p->w;
	unsigned i = 1;

	p->token = T_STRING;
	p->at = w->used;
	for (; s[i] != quote; i++) {
		char c = s[i];

		if (!c || c == '\n' || c == '\r')
			return fail(p, p->begin, "the string has no end");
		if (c == '\\') {
			const char *found = s[i + 1] ? strchr(escape, s[i + 1]) : NULL;

			if (!found)
				return fail(
					p, p->begin + i,
					"not an escape; those are \\\\ \\\" \\' \\` \\? \\a \\b "
					"\\f \\n \\r \\t \\v");
			c = meaning[found - escape];
			i++;
		}
		w->text[w->used++] = c; /* never more than the expression's own text */
	}
	p->n = w->used - p->at;
	p->len = i + 1;
	return true;
}

static bool lex_symbol(struct parser *p)
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
		return fail(p, p->begin, "%c must be doubled", *s);
	return fail(p, p->begin, "this character has no meaning here");
}

/* Reads the next token. */
static bool advance(struct parser *p)
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
	else if (name_begin(c)		 ? !lex_name(p)
		 : digit(c) || c == '-'	 ? !lex_integer(p)
		 : c == '\'' || c == '"' ? !lex_string(p)
					 : !lex_symbol(p))
		return false;
	p->next = p->begin + p->len;
	return true;
}

static bool expect(struct parser *p, enum token t, const char *what)
{
	if (p->token == t)
		return advance(p);
	return fail(p, p->begin, "%s is missing here", what);
}

/* ---- members and literals -------------------------------------------------------------------- */

static const char *type_name(unsigned member_type)
{
	static const char *const name[] = {
		[MEMBER_INTEGER] = "a whole number",   [MEMBER_BOOL] = "true or false",
		[MEMBER_STRING] = "a string",	       [MEMBER_TIME] = "a time (a string)",
		[MEMBER_ADDRESS] = "an address",       [MEMBER_LIST] = "a list",
		[MEMBER_GROUP] = "a group of members",
	};

	return name[member_type];
}

/* Is @name the last part of @path? */
static bool last_part(const char *path, const char *name)
{
	size_t n = strlen(name), all = strlen(path);

	return all > n && path[all - n - 1] == '.' && !strcmp(path + all - n, name);
}

COLD static bool unknown_member(struct parser *p, unsigned at, const char *name)
{
	struct guess g = GUESS_NONE;
	const char *nested = NULL;

	for (unsigned i = 0; i < member_count; i++) {
		guess_offer(&g, name, "", member_table[i].path, "");
		if (!nested && last_part(member_table[i].path, name))
			nested = member_table[i].path;
	}
	if (nested)
		return fail(p, at, "no line has a member %.40s; did you mean %s?", name, nested);
	return fail(p, at, "no line has a member %.40s%s", name, g.text);
}

/* The index of the member with @n octets of name at @at; its rows become part of the expression. */
static bool member_named(struct parser *p, unsigned at, unsigned n, uint8_t *ret)
{
	char name[MEMBER_PATH_MAX + 1];
	struct where *w = p->w;
	unsigned row = 0;

	if (n > MEMBER_PATH_MAX)
		return fail(p, at, "no line has a member with so long a name");
	memcpy(name, p->text + at, n);
	name[n] = '\0';
	while (row < member_count && strcmp(member_table[row].path, name))
		row++;
	if (row == member_count)
		return unknown_member(p, at, name);
	for (*ret = 0; *ret < w->members; ++*ret)
		if (w->member[*ret].first == row)
			return true;
	w->members++;
	w->member[*ret].first = (uint8_t)row;
	memset(w->member[*ret].row, ROW_NONE, EVENT_KINDS);
	for (; row < member_count && !strcmp(member_table[row].path, name); row++)
		for (unsigned kind = 0; kind < EVENT_KINDS; kind++)
			if (member_table[row].kinds >> kind & 1)
				w->member[*ret].row[kind] = (uint8_t)row;
	return true;
}

static const char *path_of(const struct parser *p, unsigned member)
{
	return member_table[p->w->member[member].first].path;
}

/* A literal token, kept until it is known what it is for. */
struct operand {
	struct literal value;
	unsigned begin; /* where it is */
};

static bool literal_token(const struct parser *p)
{
	return p->token == T_INTEGER || p->token == T_STRING || p->token == T_TRUE ||
	       p->token == T_FALSE;
}

static struct operand operand_of(const struct parser *p)
{
	struct operand o = { .begin = p->begin };

	if (p->token == T_STRING) {
		o.value.type = LITERAL_STRING;
		o.value.at = (uint16_t)p->at;
		o.value.n = (uint16_t)p->n;
	} else {
		o.value.type = p->token == T_INTEGER ? LITERAL_INTEGER : LITERAL_BOOL;
		o.value.integer = p->token == T_INTEGER ? p->integer : p->token == T_TRUE;
	}
	return o;
}

/* Copies a literal that can be an address; false: it is too long. */
static bool short_text(const struct parser *p, const struct literal *l, char *ret, size_t size)
{
	if (l->n >= size || memchr(p->w->text + l->at, '\0', l->n))
		return false;
	memcpy(ret, p->w->text + l->at, l->n);
	ret[l->n] = '\0';
	return true;
}

static bool parse_address(const char *text, struct literal *l)
{
	l->ip_v = strchr(text, ':') ? 6 : 4;
	return inet_pton(l->ip_v == 4 ? AF_INET : AF_INET6, text, l->addr) == 1;
}

/* An address must be spelled as lines spell it: it is a string, and the comparison says so. */
static bool address_literal(struct parser *p, struct operand *o)
{
	char text[INET6_ADDRSTRLEN];
	struct member_value v;

	if (!short_text(p, &o->value, text, sizeof text) || !parse_address(text, &o->value))
		return fail(p, o->begin, "this is not an IPv4 or IPv6 address");
	v.text = NULL;
	v.addr = o->value.addr;
	v.ip_v = o->value.ip_v;
	member_address_text(&v);
	if (v.n == o->value.n && !memcmp(v.text, text, v.n))
		return true;
	return fail(p, o->begin, "lines spell this address '%.*s'", (int)v.n, v.text);
}

/* A beginning of 2026-11-21T10:13:04.361972532Z, since times are compared as strings. */
static bool time_literal(struct parser *p, const struct operand *o)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd.dddddddddZ";
	const char *s = p->w->text + o->value.at;
	unsigned i = 0;

	while (i < o->value.n && (form[i] == 'd' ? digit(s[i]) : s[i] && s[i] == form[i]))
		i++;
	return i == o->value.n ||
	       fail(p, o->begin,
		    "a time must be spelled like '2026-11-21T10:13:04.361972532Z', "
		    "or be a beginning of that");
}

/* If the table knows all words of the member, is this one of them? */
static bool known_word(struct parser *p, unsigned member, const struct operand *o)
{
	const char *path = path_of(p, member);
	struct guess g = GUESS_NONE;
	char text[MEMBER_PATH_MAX] = "", shown[MEMBER_PATH_MAX + 2] = "this";
	bool printable = short_text(p, &o->value, text, sizeof text) && *text;
	unsigned row = p->w->member[member].first;

	for (; row < member_count && !strcmp(member_table[row].path, path); row++) {
		const char *word = member_word(&member_table[row], 0);

		if (!word)
			return true;
		for (unsigned i = 0; word; word = member_word(&member_table[row], ++i)) {
			if (printable && !strcmp(word, text))
				return true;
			guess_offer(&g, text, "'", word, "'");
		}
	}
	for (const char *s = text; *s; s++)
		printable = printable && *s >= ' ' && *s < 0x7f;
	if (printable)
		snprintf(shown, sizeof shown, "'%s'", text);
	return fail(p, o->begin, "%s is never %s%s", path, shown, printable ? g.text : "");
}

/* Does @o have the type of @member?  @equal: it is compared by == or !=. */
static bool fits(struct parser *p, unsigned member, struct operand *o, bool equal)
{
	static const char *const name[] = { "a whole number", "true or false", "a string" };
	unsigned type = type_of(p->w, member);
	unsigned want = type == MEMBER_INTEGER ? LITERAL_INTEGER
			: type == MEMBER_BOOL  ? LITERAL_BOOL
					       : LITERAL_STRING;

	if (o->value.type != want)
		return fail(p, o->begin, "%s is %s, this is %s", path_of(p, member),
			    type_name(type), name[o->value.type]);
	switch (type) {
	case MEMBER_ADDRESS:
		return address_literal(p, o);
	case MEMBER_TIME:
		return time_literal(p, o);
	case MEMBER_STRING:
		return !equal || known_word(p, member, o);
	}
	return true;
}

/* ---- terms ----------------------------------------------------------------------------------- */

static bool new_term(struct parser *p, unsigned at, struct term t, unsigned *ret)
{
	if (p->w->terms >= WHERE_TERMS_MAX)
		return fail(p, at, "more than %d terms", WHERE_TERMS_MAX);
	t.next[0] = t.next[1] = NEXT_NONE;
	*ret = p->w->terms++;
	p->w->term[*ret] = t;
	return true;
}

static bool new_literal(struct parser *p, const struct operand *o, uint8_t *ret)
{
	if (p->w->literals >= WHERE_TERMS_MAX)
		return fail(p, o->begin, "more than %d values", WHERE_TERMS_MAX);
	*ret = (uint8_t)p->w->literals++;
	p->w->literal[*ret] = o->value;
	return true;
}

static bool is_equality(unsigned outcomes)
{
	return outcomes == EQUAL || outcomes == (LESS | GREATER);
}

/* Can values of this type be compared with these operators? */
static bool comparable(struct parser *p, unsigned at, unsigned member, unsigned outcomes)
{
	unsigned type = type_of(p->w, member);
	bool equal = is_equality(outcomes);

	if (type == MEMBER_LIST)
		return fail(p, at, "%s is a list: ask for an item, as in 7 in %s",
			    path_of(p, member), path_of(p, member));
	if (type == MEMBER_GROUP)
		return fail(p, at, "%s is a group of members: has(%s) says whether it is there",
			    path_of(p, member), path_of(p, member));
	if (equal || (type != MEMBER_ADDRESS && type != MEMBER_BOOL))
		return true;
	return fail(p, at, "%s can only be compared by == and !=%s", path_of(p, member),
		    type == MEMBER_ADDRESS ? ", in, or cidr('...').containsIP()" : "");
}

static unsigned swapped(unsigned outcomes)
{
	return (outcomes & EQUAL) | (outcomes & LESS ? GREATER : 0) |
	       (outcomes & GREATER ? LESS : 0);
}

static bool strings(unsigned type)
{
	return type == MEMBER_STRING || type == MEMBER_TIME;
}

/* At the operator: member == literal or member. */
static bool parse_comparison(struct parser *p, struct term *t)
{
	unsigned op = p->begin, type = type_of(p->w, t->member);

	t->outcomes = (uint8_t)p->outcomes;
	if (!comparable(p, op, t->member, t->outcomes) || !advance(p))
		return false;
	if (literal_token(p)) {
		struct operand o = operand_of(p);

		t->op = OP_COMPARE;
		return fits(p, t->member, &o, is_equality(t->outcomes)) &&
		       new_literal(p, &o, &t->arg) && advance(p);
	}
	if (p->token != T_NAME)
		return fail(p, p->begin, "a value or a member is missing here");

	unsigned at = p->begin;

	t->op = OP_COMPARE_MEMBER;
	if (!member_named(p, at, p->len, &t->arg))
		return false;

	unsigned other = type_of(p->w, t->arg);

	if (other != type && !(strings(type) && strings(other)))
		return fail(p, at, "%s is %s, %s is %s", path_of(p, t->member), type_name(type),
			    path_of(p, t->arg), type_name(other));
	return advance(p);
}

/* After [ */
static bool parse_list(struct parser *p, struct term *t)
{
	t->op = OP_IN;
	t->arg = (uint8_t)p->w->literals;
	if (p->token == T_END_LIST)
		return advance(p);
	for (;;) {
		struct operand o;
		uint8_t index;

		if (!literal_token(p))
			return fail(p, p->begin, "a value is missing here");
		o = operand_of(p);
		if (!fits(p, t->member, &o, true) || !new_literal(p, &o, &index) || !advance(p))
			return false;
		t->n++;
		if (p->token != T_COMMA)
			return expect(p, T_END_LIST, "] or ,");
		if (!advance(p))
			return false;
	}
}

/* At `in`: member in [...] or in a list member. */
static bool parse_in(struct parser *p, struct term *t)
{
	unsigned type = type_of(p->w, t->member);

	if (type == MEMBER_LIST || type == MEMBER_GROUP)
		return fail(p, p->begin, "%s is %s: it is in nothing", path_of(p, t->member),
			    type_name(type));
	if (!advance(p))
		return false;
	if (p->token == T_BEGIN_LIST)
		return advance(p) && parse_list(p, t);
	if (p->token != T_NAME)
		return fail(p, p->begin, "a list is missing here");
	t->op = OP_IN_MEMBER;
	if (!member_named(p, p->begin, p->len, &t->arg))
		return false;
	if (type_of(p->w, t->arg) != MEMBER_LIST)
		return fail(p, p->begin, "%s is not a list", path_of(p, t->arg));
	if (type != MEMBER_INTEGER)
		return fail(p, p->begin, "%s has whole numbers, %s is %s", path_of(p, t->arg),
			    path_of(p, t->member), type_name(type));
	return advance(p);
}

/* At a literal, which is on the left. */
static bool parse_literal_first(struct parser *p, struct term *t)
{
	struct operand o = operand_of(p);
	bool truth = o.value.type == LITERAL_BOOL, in;

	if (!advance(p))
		return false;
	in = p->token == T_IN;
	if (p->token != T_COMPARISON && !in) {
		t->op = OP_CONSTANT;
		t->arg = (uint8_t)o.value.integer;
		return truth || fail(p, o.begin, "a value alone is no condition");
	}

	unsigned op = p->begin, outcomes = swapped(p->outcomes);

	if (!advance(p))
		return false;
	if (p->token != T_NAME)
		return fail(p, p->begin, "a member is missing here: two values need no comparison");
	if (!member_named(p, p->begin, p->len, &t->member))
		return false;
	t->outcomes = (uint8_t)outcomes;
	t->op = in ? OP_LITERAL_IN : OP_COMPARE;
	if (in && type_of(p->w, t->member) != MEMBER_LIST)
		return fail(p, p->begin, "%s is not a list", path_of(p, t->member));
	if (in && o.value.type != LITERAL_INTEGER)
		return fail(p, o.begin, "%s has whole numbers", path_of(p, t->member));
	if (!in && (!comparable(p, op, t->member, outcomes) ||
		    !fits(p, t->member, &o, is_equality(outcomes))))
		return false;
	return new_literal(p, &o, &t->arg) && advance(p);
}

/* After "has": (member) */
static bool parse_has(struct parser *p, struct term *t)
{
	t->op = OP_HAS;
	if (!expect(p, T_OPEN, "("))
		return false;
	if (p->token != T_NAME)
		return fail(p, p->begin, "a member is missing here");
	return member_named(p, p->begin, p->len, &t->member) && advance(p) &&
	       expect(p, T_CLOSE, ")");
}

static bool parse_network(struct parser *p, struct operand *o)
{
	char text[INET6_ADDRSTRLEN + 4], *slash;
	struct literal *l = &o->value;
	unsigned bits = 0, n = 0;

	if (!short_text(p, l, text, sizeof text) || !(slash = strchr(text, '/')))
		return fail(p, o->begin, "a network is missing here, as '10.0.0.0/8'");
	*slash++ = '\0';
	for (; digit(slash[n]) && n < 3; n++)
		bits = bits * 10 + (unsigned)(slash[n] - '0');
	if (!parse_address(text, l) || !n || slash[n] || bits > (l->ip_v == 4 ? 32 : 128) ||
	    (*slash == '0' && n > 1))
		return fail(p, o->begin, "this is not a network of IPv4 or IPv6");
	l->bits = (uint8_t)bits;
	return true;
}

/* After "cidr": ('net').containsIP(member) */
static bool parse_cidr(struct parser *p, struct term *t)
{
	struct operand net;

	t->op = OP_CIDR;
	if (!expect(p, T_OPEN, "("))
		return false;
	if (p->token != T_STRING)
		return fail(p, p->begin, "a network is missing here, as '10.0.0.0/8'");
	net = operand_of(p);
	if (!parse_network(p, &net) || !new_literal(p, &net, &t->arg) || !advance(p) ||
	    !expect(p, T_CLOSE, ")") || !expect(p, T_DOT, ".containsIP(member)"))
		return false;
	if (p->token != T_NAME || p->len != strlen("containsIP") ||
	    memcmp(p->text + p->begin, "containsIP", p->len))
		return fail(p, p->begin, "containsIP(member) is missing here");
	if (!advance(p) || !expect(p, T_OPEN, "("))
		return false;
	if (p->token != T_NAME)
		return fail(p, p->begin, "a member is missing here");
	if (!member_named(p, p->begin, p->len, &t->member))
		return false;
	if (type_of(p->w, t->member) != MEMBER_ADDRESS)
		return fail(p, p->begin, "%s is not an address", path_of(p, t->member));
	return advance(p) && expect(p, T_CLOSE, ")");
}

/* After the name of a method: member.startsWith('x'), the name at @at with @n octets. */
static bool parse_method(struct parser *p, struct term *t, unsigned at, unsigned n)
{
	static const struct {
		char name[12];
		uint8_t op;
	} method[] = { { "startsWith", OP_STARTS },
		       { "endsWith", OP_ENDS },
		       { "contains", OP_CONTAINS } };
	const char *dot = memrchr(p->text + at, '.', n);
	unsigned head = dot ? (unsigned)(dot - p->text) - at : 0, found = 0;
	struct operand o;

	if (!dot)
		return fail(p, at,
			    "no such function; there are has(member) and "
			    "cidr('net').containsIP(member)");
	while (found < ARRAY_SIZE(method) && (strlen(method[found].name) != n - head - 1 ||
					      memcmp(method[found].name, dot + 1, n - head - 1)))
		found++;
	if (found == ARRAY_SIZE(method))
		return fail(p, at + head + 1,
			    "no such method; there are startsWith, endsWith and contains");
	t->op = method[found].op;
	if (!member_named(p, at, head, &t->member))
		return false;
	if (!strings(type_of(p->w, t->member)) && type_of(p->w, t->member) != MEMBER_ADDRESS)
		return fail(p, at, "%s is %s, not a string", path_of(p, t->member),
			    type_name(type_of(p->w, t->member)));
	if (!expect(p, T_OPEN, "("))
		return false;
	if (p->token != T_STRING)
		return fail(p, p->begin, "a string is missing here");
	o = operand_of(p);
	return new_literal(p, &o, &t->arg) && advance(p) && expect(p, T_CLOSE, ")");
}

static bool named(const struct parser *p, const char *name)
{
	return p->len == strlen(name) && !memcmp(p->text + p->begin, name, p->len);
}

/* At a member or a function. */
static bool parse_name(struct parser *p, struct term *t)
{
	unsigned at = p->begin, n = p->len;
	bool has = named(p, "has"), cidr = named(p, "cidr");

	if (!advance(p))
		return false;
	if (p->token == T_OPEN)
		return has ? parse_has(p, t) : cidr ? parse_cidr(p, t) : parse_method(p, t, at, n);
	if (!member_named(p, at, n, &t->member))
		return false;
	if (p->token == T_COMPARISON)
		return parse_comparison(p, t);
	if (p->token == T_IN)
		return parse_in(p, t);
	t->op = OP_TRUTH;
	return type_of(p->w, t->member) == MEMBER_BOOL ||
	       fail(p, at, "%s is %s and no condition: compare it, or ask has(%s)",
		    path_of(p, t->member), type_name(type_of(p->w, t->member)),
		    path_of(p, t->member));
}

/* One comparison, call or constant. */
static bool parse_term(struct parser *p, bool negated, unsigned *ret)
{
	unsigned at = p->begin;
	struct term t = { 0 };

	if (p->token == T_END)
		return fail(p, p->begin,
			    at ? "a condition is missing at the end" : "the expression is empty");
	if (p->token != T_NAME && !literal_token(p))
		return fail(p, p->begin, "a condition is missing here");
	if (!(p->token == T_NAME ? parse_name(p, &t) : parse_literal_first(p, &t)))
		return false;
	if (negated && (t.op == OP_COMPARE || t.op == OP_COMPARE_MEMBER || t.op == OP_IN ||
			t.op == OP_IN_MEMBER || t.op == OP_LITERAL_IN))
		return fail(p, at, "! comes before ==, < and in: write !( ... )");
	return new_term(p, at, t, ret);
}

/* ---- conditions ------------------------------------------------------------------------------ */

/* A condition is a run of terms from .first on.  Exits are where its verdict is known, and what
 * comes next is not: (2 * term + truth of the term), chained through term.next[].  There is one
 * chain for each verdict. */
struct condition {
	uint8_t first;
	uint8_t exit[2];
};

enum precedence { P_OPEN, P_OR, P_AND, P_NOT };

enum { STACK = 3 * (WHERE_NESTING_MAX + 1) }; /* ( || && in each level, and the ! */

struct stack {
	struct condition value[STACK];
	struct {
		uint8_t precedence;
		uint16_t at;
	} op[STACK];
	unsigned values, ops;
	unsigned nesting; /* brackets and ! that are open */
};

static uint8_t *exit_of(struct where *w, unsigned exit)
{
	return &w->term[exit / 2].next[exit % 2];
}

/* The exits of a chain lead to @term. */
static void patch(struct where *w, unsigned exit, unsigned term)
{
	while (exit != NEXT_NONE) {
		uint8_t *next = exit_of(w, exit);

		exit = *next;
		*next = (uint8_t)term;
	}
}

static uint8_t join(struct where *w, uint8_t a, uint8_t b)
{
	uint8_t *last = exit_of(w, a);

	while (*last != NEXT_NONE)
		last = exit_of(w, *last);
	*last = b;
	return a;
}

/* Applies the operator on top of the stack. */
static void reduce(struct where *w, struct stack *s)
{
	unsigned precedence = s->op[--s->ops].precedence;
	struct condition *b = &s->value[s->values - 1], *a = b - 1;

	if (precedence == P_NOT) {
		uint8_t exit = b->exit[0];

		b->exit[0] = b->exit[1];
		b->exit[1] = exit;
		s->nesting--;
		return;
	}

	bool and = precedence == P_AND;

	patch(w, a->exit[and], b->first);
	a->exit[!and] = join(w, a->exit[!and], b->exit[!and]);
	a->exit[and] = b->exit[and];
	s->values--;
}

static void reduce_while(struct where *w, struct stack *s, unsigned precedence)
{
	while (s->ops && s->op[s->ops - 1].precedence >= precedence)
		reduce(w, s);
}

static void push(struct parser *p, struct stack *s, enum precedence precedence)
{
	s->op[s->ops].precedence = (uint8_t)precedence;
	s->op[s->ops++].at = (uint16_t)p->begin;
}

/* A term, with the brackets and ! before it. */
static bool parse_operand(struct parser *p, struct stack *s)
{
	unsigned term = 0;

	while (p->token == T_NOT || p->token == T_OPEN) {
		if (s->nesting++ == WHERE_NESTING_MAX)
			return fail(p, p->begin, "nested more than %d deep", WHERE_NESTING_MAX);
		push(p, s, p->token == T_NOT ? P_NOT : P_OPEN);
		if (!advance(p))
			return false;
	}
	if (!parse_term(p, s->ops && s->op[s->ops - 1].precedence == P_NOT, &term))
		return false;
	s->value[s->values++] = (struct condition){
		.first = (uint8_t)term,
		.exit = { (uint8_t)(2 * term), (uint8_t)(2 * term + 1) },
	};
	reduce_while(p->w, s, P_NOT);
	return true;
}

/* The brackets that close after a condition. */
static bool parse_closes(struct parser *p, struct stack *s)
{
	while (p->token == T_CLOSE) {
		reduce_while(p->w, s, P_OR);
		if (!s->ops)
			return fail(p, p->begin, "this ) closes nothing");
		s->ops--;
		s->nesting--;
		reduce_while(p->w, s, P_NOT);
		if (!advance(p))
			return false;
	}
	return true;
}

static bool parse_expression(struct parser *p)
{
	struct stack s = { .ops = 0 };

	if (!advance(p))
		return false;
	for (;;) {
		if (!parse_operand(p, &s) || !parse_closes(p, &s))
			return false;
		if (p->token != T_AND && p->token != T_OR)
			break;
		reduce_while(p->w, &s, p->token == T_AND ? P_AND : P_OR);
		push(p, &s, p->token == T_AND ? P_AND : P_OR);
		if (!advance(p))
			return false;
	}
	if (p->token == T_COMPARISON || p->token == T_IN)
		return fail(p, p->begin, "members and values can be compared, conditions cannot");
	if (p->token != T_END)
		return fail(p, p->begin, "&& or || is missing here");
	reduce_while(p->w, &s, P_OR);
	if (s.ops)
		return fail(p, s.op[s.ops - 1].at, "this ( is not closed");
	patch(p->w, s.value[0].exit[false], REJECT);
	patch(p->w, s.value[0].exit[true], ACCEPT);
	return true;
}

/* Copies the text; it must be UTF-8 without NULs. */
static bool take_text(struct parser *p, const char *text, size_t n)
{
	const char *nul;

	if (n > WHERE_TEXT_MAX)
		return fail(p, 0, "longer than %d octets", WHERE_TEXT_MAX);
	memcpy(p->text, text, n);
	p->text[n] = '\0';
	nul = memchr(p->text, '\0', n);
	for (unsigned i = 0, len; p->text[i]; i += len) {
		len = strbuf_utf8_length(p->text + i);
		if (!len)
			return fail(p, i, "this is not UTF-8");
	}
	return !nul || fail(p, (unsigned)(nul - p->text), "NUL");
}

int where_compile(struct where **ret, const char *text, size_t n, struct where_error *e)
{
	struct where *w = calloc(1, sizeof *w);
	struct parser p = { .w = w, .error = e };

	if (!w)
		return -ENOMEM;
	if (!take_text(&p, text, n) || !parse_expression(&p)) {
		free(w);
		return -EINVAL;
	}
	*ret = w;
	return 0;
}

void where_free(struct where *w)
{
	free(w);
}
