#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "base/guess.h"
#include "format/member.h"
#include "format/where_form.h"
#include "format/where_lex.h"

struct parser {
	struct lexer lex;
	struct where *w;
};

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
		return lex_fail(&p->lex, at, "no line has a member %.40s; did you mean %s?", name,
				nested);
	return lex_fail(&p->lex, at, "no line has a member %.40s%s", name, g.text);
}

/* The index of the member with @n octets of name at @at; its rows become part of the expression. */
static bool member_named(struct parser *p, unsigned at, unsigned n, uint8_t *ret)
{
	char name[MEMBER_PATH_MAX + 1];
	struct where *w = p->w;
	unsigned row = 0;

	if (n > MEMBER_PATH_MAX)
		return lex_fail(&p->lex, at, "no line has a member with so long a name");
	memcpy(name, p->lex.text + at, n);
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
	return p->lex.token == T_INTEGER || p->lex.token == T_STRING || p->lex.token == T_TRUE ||
	       p->lex.token == T_FALSE;
}

static struct operand operand_of(const struct parser *p)
{
	struct operand o = { .begin = p->lex.begin };

	if (p->lex.token == T_STRING) {
		o.value.type = LITERAL_STRING;
		o.value.at = (uint16_t)p->lex.at;
		o.value.n = (uint16_t)p->lex.n;
	} else {
		o.value.type = p->lex.token == T_INTEGER ? LITERAL_INTEGER : LITERAL_BOOL;
		o.value.integer =
			p->lex.token == T_INTEGER ? p->lex.integer : p->lex.token == T_TRUE;
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
		return lex_fail(&p->lex, o->begin, "this is not an IPv4 or IPv6 address");
	v.text = NULL;
	v.addr = o->value.addr;
	v.ip_v = o->value.ip_v;
	member_address_text(&v);
	if (v.n == o->value.n && !memcmp(v.text, text, v.n))
		return true;
	return lex_fail(&p->lex, o->begin, "lines spell this address '%.*s'", (int)v.n, v.text);
}

/* A beginning of 2026-11-21T10:13:04.361972532Z, since times are compared as strings. */
static bool time_literal(struct parser *p, const struct operand *o)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd.dddddddddZ";
	const char *s = p->w->text + o->value.at;
	unsigned i = 0;

	while (i < o->value.n && (form[i] == 'd' ? lex_digit(s[i]) : s[i] && s[i] == form[i]))
		i++;
	return i == o->value.n ||
	       lex_fail(&p->lex, o->begin,
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
	return lex_fail(&p->lex, o->begin, "%s is never %s%s", path, shown,
			printable ? g.text : "");
}

/* Does @o have the type of @member?  @equal: it is compared by == or !=. */
static bool fits(struct parser *p, unsigned member, struct operand *o, bool equal)
{
	static const char *const name[] = { "a whole number", "true or false", "a string" };
	unsigned type = where_type(p->w, member);
	unsigned want = type == MEMBER_INTEGER ? LITERAL_INTEGER
			: type == MEMBER_BOOL  ? LITERAL_BOOL
					       : LITERAL_STRING;

	if (o->value.type != want)
		return lex_fail(&p->lex, o->begin, "%s is %s, this is %s", path_of(p, member),
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
		return lex_fail(&p->lex, at, "more than %d terms", WHERE_TERMS_MAX);
	t.next[0] = t.next[1] = NEXT_NONE;
	*ret = p->w->terms++;
	p->w->term[*ret] = t;
	return true;
}

static bool new_literal(struct parser *p, const struct operand *o, uint8_t *ret)
{
	if (p->w->literals >= WHERE_TERMS_MAX)
		return lex_fail(&p->lex, o->begin, "more than %d values", WHERE_TERMS_MAX);
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
	unsigned type = where_type(p->w, member);
	bool equal = is_equality(outcomes);

	if (type == MEMBER_LIST)
		return lex_fail(&p->lex, at, "%s is a list: ask for an item, as in 7 in %s",
				path_of(p, member), path_of(p, member));
	if (type == MEMBER_GROUP)
		return lex_fail(&p->lex, at,
				"%s is a group of members: has(%s) says whether it is there",
				path_of(p, member), path_of(p, member));
	if (equal || (type != MEMBER_ADDRESS && type != MEMBER_BOOL))
		return true;
	return lex_fail(&p->lex, at, "%s can only be compared by == and !=%s", path_of(p, member),
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
	unsigned op = p->lex.begin, type = where_type(p->w, t->member);

	t->outcomes = (uint8_t)p->lex.outcomes;
	if (!comparable(p, op, t->member, t->outcomes) || !lex_advance(&p->lex))
		return false;
	if (literal_token(p)) {
		struct operand o = operand_of(p);

		t->op = OP_COMPARE;
		return fits(p, t->member, &o, is_equality(t->outcomes)) &&
		       new_literal(p, &o, &t->arg) && lex_advance(&p->lex);
	}
	if (p->lex.token != T_NAME)
		return lex_fail(&p->lex, p->lex.begin, "a value or a member is missing here");

	unsigned at = p->lex.begin;

	t->op = OP_COMPARE_MEMBER;
	if (!member_named(p, at, p->lex.len, &t->arg))
		return false;

	unsigned other = where_type(p->w, t->arg);

	if (other != type && !(strings(type) && strings(other)))
		return lex_fail(&p->lex, at, "%s is %s, %s is %s", path_of(p, t->member),
				type_name(type), path_of(p, t->arg), type_name(other));
	return lex_advance(&p->lex);
}

/* After [ */
static bool parse_list(struct parser *p, struct term *t)
{
	t->op = OP_IN;
	t->arg = (uint8_t)p->w->literals;
	if (p->lex.token == T_END_LIST)
		return lex_advance(&p->lex);
	for (;;) {
		struct operand o;
		uint8_t index;

		if (!literal_token(p))
			return lex_fail(&p->lex, p->lex.begin, "a value is missing here");
		o = operand_of(p);
		if (!fits(p, t->member, &o, true) || !new_literal(p, &o, &index) ||
		    !lex_advance(&p->lex))
			return false;
		t->n++;
		if (p->lex.token != T_COMMA)
			return lex_expect(&p->lex, T_END_LIST, "] or ,");
		if (!lex_advance(&p->lex))
			return false;
	}
}

/* At `in`: member in [...] or in a list member. */
static bool parse_in(struct parser *p, struct term *t)
{
	unsigned type = where_type(p->w, t->member);

	if (type == MEMBER_LIST || type == MEMBER_GROUP)
		return lex_fail(&p->lex, p->lex.begin, "%s is %s: it is in nothing",
				path_of(p, t->member), type_name(type));
	if (!lex_advance(&p->lex))
		return false;
	if (p->lex.token == T_BEGIN_LIST)
		return lex_advance(&p->lex) && parse_list(p, t);
	if (p->lex.token != T_NAME)
		return lex_fail(&p->lex, p->lex.begin, "a list is missing here");
	t->op = OP_IN_MEMBER;
	if (!member_named(p, p->lex.begin, p->lex.len, &t->arg))
		return false;
	if (where_type(p->w, t->arg) != MEMBER_LIST)
		return lex_fail(&p->lex, p->lex.begin, "%s is not a list", path_of(p, t->arg));
	if (type != MEMBER_INTEGER)
		return lex_fail(&p->lex, p->lex.begin, "%s has whole numbers, %s is %s",
				path_of(p, t->arg), path_of(p, t->member), type_name(type));
	return lex_advance(&p->lex);
}

/* At a literal, which is on the left. */
static bool parse_literal_first(struct parser *p, struct term *t)
{
	struct operand o = operand_of(p);
	bool truth = o.value.type == LITERAL_BOOL, in;

	if (!lex_advance(&p->lex))
		return false;
	in = p->lex.token == T_IN;
	if (p->lex.token != T_COMPARISON && !in) {
		t->op = OP_CONSTANT;
		t->arg = (uint8_t)o.value.integer;
		return truth || lex_fail(&p->lex, o.begin, "a value alone is no condition");
	}

	unsigned op = p->lex.begin, outcomes = swapped(p->lex.outcomes);

	if (!lex_advance(&p->lex))
		return false;
	if (p->lex.token != T_NAME)
		return lex_fail(&p->lex, p->lex.begin,
				"a member is missing here: two values need no comparison");
	if (!member_named(p, p->lex.begin, p->lex.len, &t->member))
		return false;
	t->outcomes = (uint8_t)outcomes;
	t->op = in ? OP_LITERAL_IN : OP_COMPARE;
	if (in && where_type(p->w, t->member) != MEMBER_LIST)
		return lex_fail(&p->lex, p->lex.begin, "%s is not a list", path_of(p, t->member));
	if (in && o.value.type != LITERAL_INTEGER)
		return lex_fail(&p->lex, o.begin, "%s has whole numbers", path_of(p, t->member));
	if (!in && (!comparable(p, op, t->member, outcomes) ||
		    !fits(p, t->member, &o, is_equality(outcomes))))
		return false;
	return new_literal(p, &o, &t->arg) && lex_advance(&p->lex);
}

/* After "has": (member) */
static bool parse_has(struct parser *p, struct term *t)
{
	t->op = OP_HAS;
	if (!lex_expect(&p->lex, T_OPEN, "("))
		return false;
	if (p->lex.token != T_NAME)
		return lex_fail(&p->lex, p->lex.begin, "a member is missing here");
	return member_named(p, p->lex.begin, p->lex.len, &t->member) && lex_advance(&p->lex) &&
	       lex_expect(&p->lex, T_CLOSE, ")");
}

static bool parse_network(struct parser *p, struct operand *o)
{
	char text[INET6_ADDRSTRLEN + 4], *slash;
	struct literal *l = &o->value;
	unsigned bits = 0, n = 0;

	if (!short_text(p, l, text, sizeof text) || !(slash = strchr(text, '/')))
		return lex_fail(&p->lex, o->begin, "a network is missing here, as '10.0.0.0/8'");
	*slash++ = '\0';
	for (; lex_digit(slash[n]) && n < 3; n++)
		bits = bits * 10 + (unsigned)(slash[n] - '0');
	if (!parse_address(text, l) || !n || slash[n] || bits > (l->ip_v == 4 ? 32 : 128) ||
	    (*slash == '0' && n > 1))
		return lex_fail(&p->lex, o->begin, "this is not a network of IPv4 or IPv6");
	l->bits = (uint8_t)bits;
	return true;
}

/* After "cidr": ('net').containsIP(member) */
static bool parse_cidr(struct parser *p, struct term *t)
{
	struct operand net;

	t->op = OP_CIDR;
	if (!lex_expect(&p->lex, T_OPEN, "("))
		return false;
	if (p->lex.token != T_STRING)
		return lex_fail(&p->lex, p->lex.begin,
				"a network is missing here, as '10.0.0.0/8'");
	net = operand_of(p);
	if (!parse_network(p, &net) || !new_literal(p, &net, &t->arg) || !lex_advance(&p->lex) ||
	    !lex_expect(&p->lex, T_CLOSE, ")") ||
	    !lex_expect(&p->lex, T_DOT, ".containsIP(member)"))
		return false;
	if (p->lex.token != T_NAME || p->lex.len != strlen("containsIP") ||
	    memcmp(p->lex.text + p->lex.begin, "containsIP", p->lex.len))
		return lex_fail(&p->lex, p->lex.begin, "containsIP(member) is missing here");
	if (!lex_advance(&p->lex) || !lex_expect(&p->lex, T_OPEN, "("))
		return false;
	if (p->lex.token != T_NAME)
		return lex_fail(&p->lex, p->lex.begin, "a member is missing here");
	if (!member_named(p, p->lex.begin, p->lex.len, &t->member))
		return false;
	if (where_type(p->w, t->member) != MEMBER_ADDRESS)
		return lex_fail(&p->lex, p->lex.begin, "%s is not an address",
				path_of(p, t->member));
	return lex_advance(&p->lex) && lex_expect(&p->lex, T_CLOSE, ")");
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
	const char *dot = memrchr(p->lex.text + at, '.', n);
	unsigned head = dot ? (unsigned)(dot - p->lex.text) - at : 0, found = 0;
	struct operand o;

	if (!dot)
		return lex_fail(&p->lex, at,
				"no such function; there are has(member) and "
				"cidr('net').containsIP(member)");
	while (found < ARRAY_SIZE(method) && (strlen(method[found].name) != n - head - 1 ||
					      memcmp(method[found].name, dot + 1, n - head - 1)))
		found++;
	if (found == ARRAY_SIZE(method))
		return lex_fail(&p->lex, at + head + 1,
				"no such method; there are startsWith, endsWith and contains");
	t->op = method[found].op;
	if (!member_named(p, at, head, &t->member))
		return false;
	if (!strings(where_type(p->w, t->member)) && where_type(p->w, t->member) != MEMBER_ADDRESS)
		return lex_fail(&p->lex, at, "%s is %s, not a string", path_of(p, t->member),
				type_name(where_type(p->w, t->member)));
	if (!lex_expect(&p->lex, T_OPEN, "("))
		return false;
	if (p->lex.token != T_STRING)
		return lex_fail(&p->lex, p->lex.begin, "a string is missing here");
	o = operand_of(p);
	return new_literal(p, &o, &t->arg) && lex_advance(&p->lex) &&
	       lex_expect(&p->lex, T_CLOSE, ")");
}

/* At a member or a function. */
static bool parse_name(struct parser *p, struct term *t)
{
	unsigned at = p->lex.begin, n = p->lex.len;
	bool has = lex_is(&p->lex, "has"), cidr = lex_is(&p->lex, "cidr");

	if (!lex_advance(&p->lex))
		return false;
	if (p->lex.token == T_OPEN)
		return has ? parse_has(p, t) : cidr ? parse_cidr(p, t) : parse_method(p, t, at, n);
	if (!member_named(p, at, n, &t->member))
		return false;
	if (p->lex.token == T_COMPARISON)
		return parse_comparison(p, t);
	if (p->lex.token == T_IN)
		return parse_in(p, t);
	t->op = OP_TRUTH;
	return where_type(p->w, t->member) == MEMBER_BOOL ||
	       lex_fail(&p->lex, at, "%s is %s and no condition: compare it, or ask has(%s)",
			path_of(p, t->member), type_name(where_type(p->w, t->member)),
			path_of(p, t->member));
}

/* One comparison, call or constant. */
static bool parse_term(struct parser *p, bool negated, unsigned *ret)
{
	unsigned at = p->lex.begin;
	struct term t = { 0 };

	if (p->lex.token == T_END)
		return lex_fail(&p->lex, p->lex.begin,
				at ? "a condition is missing at the end"
				   : "the expression is empty");
	if (p->lex.token != T_NAME && !literal_token(p))
		return lex_fail(&p->lex, p->lex.begin, "a condition is missing here");
	if (!(p->lex.token == T_NAME ? parse_name(p, &t) : parse_literal_first(p, &t)))
		return false;
	if (negated && (t.op == OP_COMPARE || t.op == OP_COMPARE_MEMBER || t.op == OP_IN ||
			t.op == OP_IN_MEMBER || t.op == OP_LITERAL_IN))
		return lex_fail(&p->lex, at, "! comes before ==, < and in: write !( ... )");
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
	s->op[s->ops++].at = (uint16_t)p->lex.begin;
}

/* A term, with the brackets and ! before it. */
static bool parse_operand(struct parser *p, struct stack *s)
{
	unsigned term = 0;

	while (p->lex.token == T_NOT || p->lex.token == T_OPEN) {
		if (s->nesting++ == WHERE_NESTING_MAX)
			return lex_fail(&p->lex, p->lex.begin, "nested more than %d deep",
					WHERE_NESTING_MAX);
		push(p, s, p->lex.token == T_NOT ? P_NOT : P_OPEN);
		if (!lex_advance(&p->lex))
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
	while (p->lex.token == T_CLOSE) {
		reduce_while(p->w, s, P_OR);
		if (!s->ops)
			return lex_fail(&p->lex, p->lex.begin, "this ) closes nothing");
		s->ops--;
		s->nesting--;
		reduce_while(p->w, s, P_NOT);
		if (!lex_advance(&p->lex))
			return false;
	}
	return true;
}

static bool parse_expression(struct parser *p)
{
	struct stack s = { .ops = 0 };

	if (!lex_advance(&p->lex))
		return false;
	for (;;) {
		if (!parse_operand(p, &s) || !parse_closes(p, &s))
			return false;
		if (p->lex.token != T_AND && p->lex.token != T_OR)
			break;
		reduce_while(p->w, &s, p->lex.token == T_AND ? P_AND : P_OR);
		push(p, &s, p->lex.token == T_AND ? P_AND : P_OR);
		if (!lex_advance(&p->lex))
			return false;
	}
	if (p->lex.token == T_COMPARISON || p->lex.token == T_IN)
		return lex_fail(&p->lex, p->lex.begin,
				"members and values can be compared, conditions cannot");
	if (p->lex.token != T_END)
		return lex_fail(&p->lex, p->lex.begin, "&& or || is missing here");
	reduce_while(p->w, &s, P_OR);
	if (s.ops)
		return lex_fail(&p->lex, s.op[s.ops - 1].at, "this ( is not closed");
	patch(p->w, s.value[0].exit[false], REJECT);
	patch(p->w, s.value[0].exit[true], ACCEPT);
	return true;
}

int where_compile(struct where **ret, const char *text, size_t n, struct where_error *e)
{
	struct where *w = calloc(1, sizeof *w);
	struct parser p = { .w = w, .lex = { .error = e } };

	if (!w)
		return -ENOMEM;
	p.lex.strings = w->text;
	if (!lex_begin(&p.lex, text, n) || !parse_expression(&p)) {
		free(w);
		return -EINVAL;
	}
	where_prepare(w);
	*ret = w;
	return 0;
}

void where_free(struct where *w)
{
	free(w);
}
