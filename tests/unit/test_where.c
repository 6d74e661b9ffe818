/* Expressions over event lines, and the table of members that they use. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include "base/cc.h"
#include "base/strbuf.h"
#include "flow/event_names.h"
#include "format/line.h"
#include "format/member.h"
#include "format/where.h"
#include "format/where_form.h"
#include "tests/support/json_at.h"
#include "tests/support/records.h"
#include "tests/support/tap.h"

static struct fmt_second second;
static char line[1 << 16];
static size_t line_len;

static void encode(const struct event *e, uint64_t seq, const struct json_context *c)
{
	struct strbuf t = { .p = line, .end = line + sizeof line };

	json_event(&t, e, seq, c);
	line_len = (size_t)(t.p - line);
}

/* ---- the table and the lines ----------------------------------------------------------------- */

/* The first row of @path for lines of @kind. */
static const struct member *row_of(const char *path, unsigned kind)
{
	for (unsigned i = 0; i < member_count; i++)
		if (!strcmp(member_table[i].path, path) && member_table[i].kinds >> kind & 1)
			return &member_table[i];
	return NULL;
}

static unsigned first_kind(const struct member *m)
{
	return (unsigned)__builtin_ctz(m->kinds);
}

static void test_table(void)
{
	unsigned twice = 0, apart = 0, differ = 0, too_long = 0, formatted = 0;

	for (unsigned i = 0; i < member_count; i++) {
		const struct member *m = &member_table[i];

		too_long += strlen(m->path) > MEMBER_PATH_MAX;
		formatted += member_is_formatted(m) && row_of(m->path, first_kind(m)) == m;
		for (unsigned j = i + 1; j < member_count; j++) {
			const struct member *o = &member_table[j];

			if (strcmp(m->path, o->path))
				continue;
			twice += (m->kinds & o->kinds) != 0;
			differ += m->type != o->type;
			apart += strcmp(member_table[j - 1].path, o->path) != 0;
		}
	}
	ok(!twice && !differ && !apart && !too_long,
	   "the rows of a member stand together, have one type, and no kind of line twice");
	ok(formatted <= WHERE_TEXTS, "each text is formatted once for an expression");
}

struct found {
	unsigned unknown, differ, missing, seen[MEMBERS_MAX];
};

static bool same_text(const struct member_value *v, const json_t *j)
{
	return json_is_string(j) && v->n == json_string_length(j) &&
	       !memcmp(v->text, json_string_value(j), v->n);
}

static bool same_value(const struct member *m, struct member_value *v, const json_t *j)
{
	switch (m->type) {
	case MEMBER_INTEGER:
		return json_is_integer(j) && json_integer_value(j) == v->integer;
	case MEMBER_BOOL:
		return json_is_boolean(j) && json_boolean_value(j) == v->truth;
	case MEMBER_ADDRESS:
		member_address_text(v);
		return same_text(v, j);
	case MEMBER_LIST:
		if (json_array_size(j) != v->items)
			return false;
		for (unsigned i = 0; i < v->items; i++)
			if (json_integer_value(json_array_get(j, i)) != v->item[i])
				return false;
		return true;
	case MEMBER_GROUP:
		return json_is_object(j) || json_is_array(j);
	}
	return same_text(v, j);
}

/* Every member of the line is in the table, and both getters find its value. */
static void walk(const json_t *j, const char *prefix, unsigned kind, const struct event *e,
		 uint64_t seq, const struct json_context *c, struct found *f)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)j, key, value)
	{
		char path[128];
		const struct member *m;
		struct member_value v;

		snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", key);
		m = row_of(path, kind);
		if (!m) {
			printf("# %s is not in the table for kind %u\n", path, kind);
			f->unknown++;
			continue;
		}
		f->seen[m - member_table]++;

		struct line_member lm = { .path = path, .path_len = (unsigned)strlen(path) };
		bool by_line = line_find(line, line_len, &lm, 1) && lm.n &&
			       member_of_text(m, lm.text, lm.n, &v) && same_value(m, &v, value);
		bool by_event =
			!e || (member_of_event(m, e, seq, c, &v) && same_value(m, &v, value));

		if ((!by_line || !by_event) && !f->differ++)
			printf("# %s: %s: %s", path, by_line ? "record" : "text", line);
		if (json_is_object(value))
			walk(value, path, kind, e, seq, c, f);
	}
}

static void test_lines(void)
{
	static struct found f;
	unsigned bad = 0, phantom = 0, present[MEMBERS_MAX] = { 0 }, absent[MEMBERS_MAX] = { 0 };
	unsigned rest = 0;

	for (unsigned i = 0; i < 9000; i++) {
		unsigned kind = i % EVENT_KINDS;
		struct event e = random_event(kind);
		struct json_context c = random_context(&second);
		uint64_t seq = rand64() >> 1;

		encode(&e, seq, &c);

		json_t *j = json_loadb(line, line_len, JSON_REJECT_DUPLICATES, NULL);

		bad += !j;
		walk(j, "", kind, &e, seq, &c, &f);
		for (unsigned r = 0; r < member_count; r++) {
			struct member_value v;

			if (!(member_table[r].kinds >> kind & 1))
				continue;

			bool has = member_of_event(&member_table[r], &e, seq, &c, &v);

			if (has != !!at(j, member_table[r].path) && !phantom++)
				printf("# %s is %s: %s", member_table[r].path,
				       has ? "not in the line" : "in the line", line);
			present[r] += has;
			absent[r] += !has;
		}
		json_decref(j);
	}
	for (unsigned r = 0; r < member_count; r++)
		if (member_table[r].kinds & ((1u << EVENT_KINDS) - 1) && !f.seen[r]) {
			printf("# %s never came\n", member_table[r].path);
			rest++;
		}
	ok(!bad, "random records of every kind are lines of JSON");
	ok(!f.unknown, "each member of such a line is in the table, for its kind");
	ok(!f.differ, "its value is the same by the record and by the line's text");
	ok(!phantom, "what the record has the line has, and nothing else");
	ok(!rest, "each row of the table comes in some line");
}

/* ---- the table and the schema ---------------------------------------------------------------- */

static const json_t *resolve(const json_t *schema, const json_t *node)
{
	const char *ref;

	while ((ref = json_string_value(json_object_get(node, "$ref"))))
		node = json_object_get(json_object_get(schema, "$defs"), strrchr(ref, '/') + 1);
	return node;
}

static bool schema_type_is(const json_t *node, const char *want)
{
	const char *type = json_string_value(json_object_get(node, "type"));
	const json_t *one = json_object_get(node, "const");

	if (!one)
		one = json_array_get(json_object_get(node, "enum"), 0);
	if (!type)
		type = json_is_integer(one) ? "integer" : json_is_string(one) ? "string" : "?";
	return !strcmp(type, want);
}

/* Does the schema say of the member what the table says? */
static bool same_type(const json_t *schema, const json_t *node, enum member_type type)
{
	const char *ref = json_string_value(json_object_get(node, "$ref"));
	const json_t *what = resolve(schema, node);
	bool numbers = schema_type_is(json_object_get(what, "items"), "integer");

	switch (type) {
	case MEMBER_INTEGER:
		return schema_type_is(what, "integer");
	case MEMBER_BOOL:
		return schema_type_is(what, "boolean");
	case MEMBER_STRING:
		return schema_type_is(what, "string");
	case MEMBER_TIME:
		return ref && !strcmp(ref, "#/$defs/time");
	case MEMBER_ADDRESS:
		return ref && !strcmp(ref, "#/$defs/ip");
	case MEMBER_LIST:
		return schema_type_is(what, "array") && numbers;
	case MEMBER_GROUP:
		return schema_type_is(what, "object") ||
		       (schema_type_is(what, "array") && !numbers);
	}
	return false;
}

struct compared {
	unsigned unknown, types, words, seen[MEMBERS_MAX], said[MEMBERS_MAX];
};

static void compare_word(const struct member *m, const char *word, struct compared *x)
{
	const char *w;

	for (unsigned i = 0; (w = member_word(m, i)); i++)
		if (!strcmp(w, word)) {
			x->said[m - member_table] |= 1u << i;
			return;
		}
	printf("# %s is never %s\n", m->path, word);
	x->words++;
}

static void compare_words(const json_t *node, const struct member *m, const char *path,
			  struct compared *x)
{
	const json_t *words = json_object_get(node, "enum"), *one = json_object_get(node, "const");
	size_t i;
	json_t *word;

	if (!member_word(m, 0)) {
		if (m->type == MEMBER_STRING && (words || one) && ++x->words)
			printf("# %s: the table does not have its words\n", path);
		return;
	}
	if (one)
		compare_word(m, json_string_value(one), x);
	json_array_foreach((json_t *)words, i, word) compare_word(m, json_string_value(word), x);
}

static void compare(const json_t *schema, const json_t *node, const char *prefix, unsigned kind,
		    struct compared *x)
{
	const char *key;
	json_t *value;

	json_object_foreach(json_object_get(node, "properties"), key, value)
	{
		char path[128];
		const struct member *m;

		snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", key);
		m = row_of(path, kind);
		if (!m) {
			printf("# %s of %s is in the schema alone\n", path, line_kind_name(kind));
			x->unknown++;
			continue;
		}
		x->seen[m - member_table] |= 1u << kind;
		if (!same_type(schema, value, m->type) && ++x->types)
			printf("# %s: another type\n", path);
		compare_words(resolve(schema, value), m, path, x);
		compare(schema, resolve(schema, value), path, kind, x);
	}
}

static void test_schema(void)
{
	json_t *schema = json_load_file("docs/events.schema.json", 0, NULL);
	static struct compared x;
	unsigned absent = 0, unsaid = 0;

	for (unsigned kind = 0; kind < LINE_KINDS; kind++)
		compare(schema,
			json_object_get(json_object_get(schema, "$defs"), line_kind_name(kind)), "",
			kind, &x);
	for (unsigned r = 0; r < member_count; r++)
		for (unsigned i = 0; member_word(&member_table[r], i); i++)
			if (!(x.said[r] >> i & 1) && ++unsaid)
				printf("# %s: the schema does not have %s\n", member_table[r].path,
				       member_word(&member_table[r], i));
	for (unsigned r = 0; r < member_count; r++)
		if (x.seen[r] != member_table[r].kinds && ++absent)
			printf("# %s: the schema does not have it everywhere\n",
			       member_table[r].path);
	ok(!x.unknown && !absent, "docs/events.schema.json has the same members in the same lines");
	ok(!x.types, "of the same types");
	ok(!x.words && !unsaid, "and of the same words");
	json_decref(schema);
}

/* Does the page have the member, in backticks: by its path, or by an end of it? */
static bool documented(const char *page, const char *path)
{
	for (const char *name = path; name; name = strchr(name + 1, '.')) {
		char quoted[MEMBER_PATH_MAX + 8];

		snprintf(quoted, sizeof quoted, "`%s`", name);
		if (strstr(page, quoted))
			return true;
		snprintf(quoted, sizeof quoted, "`%s`", name + (*name == '.'));
		if (strstr(page, quoted))
			return true;
	}
	return false;
}

static void test_documentation(void)
{
	static char page[1 << 17];
	FILE *f = fopen("docs/events.md", "r");
	unsigned missing = 0;

	if (!f || fread(page, 1, sizeof page - 1, f) < 1000)
		abort();
	fclose(f);
	for (unsigned r = 0; r < member_count; r++)
		if (member_table[r].type != MEMBER_GROUP &&
		    !documented(page, member_table[r].path) && ++missing)
			printf("# %s is not in docs/events.md\n", member_table[r].path);
	ok(!missing, "docs/events.md has each member");
}

/* ---- expressions ----------------------------------------------------------------------------- */

/* The verdict of both getters: 0 or 1; 2: they differ; 3: it does not compile. */
static int verdict(const char *text, const struct event *e, uint64_t seq,
		   const struct json_context *c)
{
	struct where_error error;
	struct where *w;

	if (where_compile(&w, text, strlen(text), &error)) {
		printf("# %s: at %u: %s\n", text, error.at, error.text);
		return 3;
	}
	encode(e, seq, c);

	bool a = where_event(w, e, seq, c), b = where_line(w, line, line_len);

	where_free(w);
	return a == b ? a : 2;
}

static const struct json_context eth0 = { .iface = "eth0", .second = &second };

static struct event an_event(enum event_kind kind)
{
	struct event e = { .kind = (uint8_t)kind,
			   .ts_ns = 1700000000123456789,
			   .flow_id = 0x0123456789abcdef,
			   .ip_v = 4,
			   .addr = { { 10, 1, 2, 3 }, { 192, 0, 2, 80 } },
			   .port = { 40000, 443 },
			   .vlan = { 7, 9 },
			   .nvlan = 2,
			   .state = { TCPS_TIME_WAIT, TCPS_CLOSED },
			   .segment = SEGMENT_ACK };

	if (kind == EVENT_TCP_CLOSE) {
		e.close.start_ns = 1700000000000000000;
		e.close.end_ns = e.ts_ns;
		e.close.reason = REASON_RST;
		e.close.pkts[0] = 5;
		e.close.pkts[1] = 4;
		e.close.lossy = true;
	}
	return e;
}

static const char *const yes[] = {
	"true",
	"dest_port == 443",
	"443 == dest_port",
	"dest_port != 80 && tcp.reason != 'fin'",
	"dest_port in [80, 443, 8080]",
	"!(dest_port in [])",
	"dest_port > 442 && dest_port < 444 && dest_port >= 443 && dest_port <= 443",
	"442 < dest_port && 444 > dest_port",
	"dest_port == 0x1bb && dest_port > -5",
	"src_port > dest_port",
	"flow.pkts_toserver != flow.pkts_toclient",
	"tcp.reason == \"rst\" || false",
	"tcp.lossy",
	"tcp.lossy == true && tcp.midstream == false && !tcp.midstream",
	"tcp.client_state != tcp.server_state",
	"event_type == 'tcp_close'",
	"src_ip == '10.1.2.3' && src_ip != dest_ip",
	"src_ip in ['::1', '10.1.2.3']",
	"src_ip.startsWith('10.') && src_ip.endsWith('.3') && src_ip.contains('1.2')",
	"cidr('10.0.0.0/8').containsIP(src_ip)",
	"cidr('0.0.0.0/0').containsIP(src_ip) && cidr('10.1.2.2/31').containsIP(src_ip)",
	"!cidr('::/0').containsIP(src_ip) && !cidr('10.1.2.4/30').containsIP(src_ip)",
	"timestamp > '2023-11-14T22:13:20.1' && timestamp < '2023-11-14T22:13:20.2'",
	"timestamp == '2023-11-14T22:13:20.123456789Z' && timestamp == flow.end",
	"timestamp.startsWith('2023-11')",
	"flow.age_ns == 123456789 && flow.start < flow.end",
	"flow_id == '0123456789abcdef' && seq == 77",
	"has(vlan) && has(tcp) && has(flow.age_ns) && !has(tunnel)",
	"9 in vlan && 7 in vlan && !(8 in vlan) && !(dest_port in vlan)",
	"!(tunnel.id == 5) && !(tunnel.id != 5) && !(tunnel.id in [5]) && !tcp.options.sack",
	"!(tunnel.type.startsWith(''))",
	"in_iface == 'eth0' && in_iface.contains('') && in_iface < 'eth1' && in_iface > 'eth'",
	"! ! true && !(!(dest_port == 443))",
	"false && false || true",
	"true || false && false",
	"!(false || false) && (true || false)",
	"(((dest_port == 443)))",
	" dest_port\t==\n443 ",
	"tcp.history == ''",
};

static const char *const no[] = {
	"false",
	"!true",
	"dest_port == 80",
	"tunnel.id == 5",
	"tunnel.id != 5",
	"reason == 'poison'",
	"tcp.options.sack",
	"tcp.options.mss > 0",
	"flow.stream_toserver == flow.stream_toserver",
	"src_port == dest_port",
	"flood.rate < 1",
	"state == 'up'",
	"first_seq == 1",
	"false && true || false",
	"!(true || false)",
	"dest_port in [80, 8080]",
	"src_ip == '::ffff:10.1.2.3'",
	"src_ip == dest_ip",
};

static void test_semantics(void)
{
	struct event e = an_event(EVENT_TCP_CLOSE);
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(yes); i++)
		if (verdict(yes[i], &e, 77, &eth0) != 1 && ++wrong)
			printf("# must be true: %s\n", yes[i]);
	ok(!wrong, "what is true is true, by the record and by the line");
	wrong = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(no); i++)
		if (verdict(no[i], &e, 77, &eth0) != 0 && ++wrong)
			printf("# must be false: %s\n", no[i]);
	ok(!wrong, "what is false is false, and so is a comparison with an absent member");
}

/* ---- errors ---------------------------------------------------------------------------------- */

static const struct wrong {
	const char *text;
	unsigned at;
	const char *says;
} wrongs[] = {
	{ "", 1, "empty" },
	{ "  ", 3, "a condition is missing at the end" },
	{ "dest_prot == 443", 1, "did you mean dest_port?" },
	{ "tcp.reson == 'fin'", 1, "did you mean tcp.reason?" },
	{ "client_state == 'closed'", 1, "did you mean tcp.client_state?" },
	{ "true && reset_mroe == 1", 9, "did you mean reset_more?" },
	{ "utterly_other == 1", 1, "no line has a member utterly_other" },
	{ "dest_port == 'x'", 14, "dest_port is a whole number, this is a string" },
	{ "dest_port == true", 14, "this is true or false" },
	{ "tcp.reason == 5", 15, "tcp.reason is a string, this is a whole number" },
	{ "tcp.lossy == 1", 14, "tcp.lossy is true or false" },
	{ "tcp.lossy < true", 11, "only be compared by == and !=" },
	{ "'x' == dest_port", 1, "dest_port is a whole number, this is a string" },
	{ "dest_port in [443, 'x']", 20, "this is a string" },
	{ "tcp.reason == 'fim'", 15, "never 'fim'; did you mean 'fin'?" },
	{ "tcp.reason in ['rst', 'refussed']", 23, "did you mean 'refused'?" },
	{ "event_type == 'tcp_closed'", 15, "did you mean 'tcp_close'?" },
	{ "event_type == 'stat'", 15, "did you mean 'stats'?" },
	{ "reason == 'ring_full'", 11, "reason is never 'ring_full'" },
	{ "tunnel.type == 'vxlam'", 16, "did you mean 'vxlan'?" },
	{ "tcp.segment == 'none'", 16, "is never 'none'" },
	{ "tcp.reason == 'z\xc3\xbcrich'", 15, "is never this" },
	{ "dest_port", 1, "compare it" },
	{ "vlan == 7", 6, "7 in vlan" },
	{ "tunnel == 7", 8, "has(tunnel)" },
	{ "7 in dest_port", 6, "not a list" },
	{ "'x' in vlan", 1, "whole numbers" },
	{ "tcp.reason in vlan", 15, "whole numbers" },
	{ "vlan in [7]", 6, "a list" },
	{ "dest_port == src_ip", 14, "src_ip is an address" },
	{ "src_ip == '10.0.0'", 11, "not an IPv4 or IPv6 address" },
	{ "src_ip == '0:0:0:0:0:0:0:1'", 11, "lines spell this address '::1'" },
	{ "src_ip < '10.0.0.1'", 8, "containsIP" },
	{ "timestamp > 'today'", 13, "2026-11-21T10:13:04" },
	{ "timestamp > '2026-11-21T10:13:04Z'", 13, "spelled like" },
	{ "cidr('10.0.0.0').containsIP(src_ip)", 6, "a network" },
	{ "cidr('10.0.0.0/33').containsIP(src_ip)", 6, "not a network" },
	{ "cidr('10.0.0.0/08').containsIP(src_ip)", 6, "not a network" },
	{ "cidr('10.0.0.0/8').containsIP(dest_port)", 31, "not an address" },
	{ "cidr('10.0.0.0/8').contains(src_ip)", 20, "containsIP" },
	{ "cidr('10.0.0.0/8')", 19, "containsIP" },
	{ "dest_port.startsWith('4')", 1, "not a string" },
	{ "in_iface.matches('e.*')", 10, "startsWith, endsWith and contains" },
	{ "in_iface.startsWith(5)", 21, "a string is missing" },
	{ "size(in_iface)", 1, "no such function" },
	{ "has(dest_prot)", 5, "did you mean dest_port?" },
	{ "has(443)", 5, "a member is missing" },
	{ "has(dest_port", 14, ") is missing" },
	{ "dest_port = 443", 11, "= must be doubled" },
	{ "true & true", 6, "& must be doubled" },
	{ "true | true", 6, "| must be doubled" },
	{ "true true", 6, "&& or || is missing" },
	{ "true &&", 8, "a condition is missing at the end" },
	{ "&& true", 1, "a condition is missing here" },
	{ "(true", 1, "not closed" },
	{ "true)", 5, "closes nothing" },
	{ "()", 2, "a condition is missing here" },
	{ "!dest_port == 443", 2, "write !(" },
	{ "!443 in vlan", 2, "write !(" },
	{ "1 < dest_port < 5", 15, "conditions cannot" },
	{ "(dest_port) == 5", 2, "compare it" },
	{ "(true) == true", 8, "conditions cannot" },
	{ "1 == 1", 6, "two values need no comparison" },
	{ "443", 1, "a value alone is no condition" },
	{ "dest_port == ", 14, "missing" },
	{ "dest_port == 1.5", 14, "whole" },
	{ "dest_port == 12ab", 14, "ends in a letter" },
	{ "dest_port == 0x", 14, "needs digits" },
	{ "dest_port == - 5", 14, "needs digits" },
	{ "dest_port == 9223372036854775808", 14, "out of range" },
	{ "tcp.reason == 'fin", 15, "no end" },
	{ "tcp.reason == 'fin\n'", 15, "no end" },
	{ "in_iface == 'a\\x41'", 15, "not an escape" },
	{ "dest_port in [443", 18, "] or , is missing" },
	{ "dest_port in [443,]", 19, "a value is missing" },
	{ "dest_port in 443", 14, "a list is missing" },
	{ "dest_port == [443]", 14, "missing" },
	{ "dest_port == null", 14, "no line has a member null" },
	{ "dest_port ? true : false", 11, "no meaning" },
	{ "in_iface == 'z\xc3\xbcrich' && dest_prot == 1", 25, "dest_port" },
	{ "z\xc3\xbcrich == 1", 2, "no meaning" },
};

static void test_errors(void)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(wrongs); i++) {
		const struct wrong *x = &wrongs[i];
		struct where_error e = { 0 };
		struct where *w = NULL;
		int r = where_compile(&w, x->text, strlen(x->text), &e);

		if (r == -EINVAL && e.at == x->at && strstr(e.text, x->says) && !w)
			continue;
		wrong++;
		printf("# %s: %d at %u, not %u: %s\n", x->text, r, e.at, x->at, e.text);
		where_free(w);
	}
	ok(!wrong, "what is wrong is refused: which character, and why");
}

/* 0, or where the error is. */
static unsigned refused(const char *text, size_t n, const char *says)
{
	struct where_error e = { 0 };
	struct where *w;

	if (!where_compile(&w, text, n, &e)) {
		where_free(w);
		return 0;
	}
	if (!strstr(e.text, says))
		printf("# at %u: %s\n", e.at, e.text);
	return strstr(e.text, says) ? e.at : 0;
}

/* @n times @piece, between @before and @after. */
static const char *repeated(const char *before, unsigned n, const char *piece, const char *after)
{
	static char text[1 << 16];
	char *p = stpcpy(text, before);

	while (n--)
		p = stpcpy(p, piece);
	strcpy(p, after);
	return text;
}

static bool compiles(const char *text)
{
	return !refused(text, strlen(text), "");
}

static bool refused_text(const char *text, const char *says)
{
	return refused(text, strlen(text), says);
}

static void test_limits(void)
{
	struct event e = an_event(EVENT_TCP_CLOSE);
	char nest[200];

	ok(compiles(repeated("true", 1020, " ", "")) &&
		   refused_text(repeated("true", 1021, " ", ""), "longer than 1024"),
	   "1,024 octets are enough for any expression");
	ok(compiles(repeated("true", 99, "&&true", "")) &&
		   refused_text(repeated("true", 100, "&&true", ""), "more than 100 terms"),
	   "and 100 terms");
	ok(compiles(repeated("dest_port in [1", 99, ",2", "]")) &&
		   refused_text(repeated("dest_port in [1", 100, ",2", "]"),
				"more than 100 values"),
	   "and 100 values");
	memset(nest, '(', 32);
	strcpy(nest + 32, "true");
	memset(nest + 36, ')', 32);
	nest[68] = '\0';
	ok(compiles(nest) && refused_text(repeated("", 33, "(", "true"), "nested more than 32"),
	   "and 32 brackets, one in another");
	ok(verdict(repeated("", 32, "!", "true"), &e, 1, &eth0) == 1 &&
		   refused_text(repeated("", 33, "!", "true"), "nested more than 32"),
	   "and 32 times !");
	ok(refused_text(repeated("", 10000, "(", ""), "longer") &&
		   refused_text(repeated("", 1000, "(", ""), "nested"),
	   "10,000 brackets are an error");
	ok(verdict(repeated("", 10, "(false||!(true&&", "false))))))))))))))))))))"), &e, 1,
		   &eth0) == 0 &&
		   verdict(repeated("", 9, "(false||!(true&&", "false))))))))))))))))))"), &e, 1,
			   &eth0) == 1,
	   "operators of each level are kept apart");
	ok(refused("true\0", 5, "NUL") == 5 && refused("in_iface == 'a\0b'", 17, "NUL") == 15,
	   "a NUL is an error");
	ok(refused("in_iface == 'a\xff'", 16, "UTF-8") == 15 &&
		   refused("in_iface == '\xc3\xbc\xc3'", 17, "UTF-8") == 15,
	   "so is what is not UTF-8; characters are counted, not octets");
	ok(refused(repeated("x", 1000, "y", ""), 1001, "so long a name") == 1,
	   "so is a name without end");
}

/* For each member of random records: it is equal to itself, and is there. */
static void test_members(void)
{
	unsigned wrong = 0, asked = 0;

	for (unsigned i = 0; i < 500; i++) {
		unsigned kind = i % EVENT_KINDS;
		struct event e = random_event(kind);
		struct json_context c = random_context(&second);

		for (unsigned r = 0; r < member_count; r++) {
			const struct member *m = &member_table[r];
			struct member_value v;
			char text[256];
			bool has, equal = m->type != MEMBER_LIST && m->type != MEMBER_GROUP;

			if (!(m->kinds >> kind & 1))
				continue;
			has = member_of_event(m, &e, 5, &c, &v);
			asked++;
			snprintf(text, sizeof text, equal ? "has(%s) && %s == %s" : "has(%s)",
				 m->path, m->path, m->path);
			if (verdict(text, &e, 5, &c) != has && ++wrong)
				printf("# %s: %s", text, line);
		}
	}
	ok(!wrong, "each of %u members is there or not, and equal to itself", asked);
}

/* jansson cannot read such a line; the getters agree. */
static void test_greatest(void)
{
	struct event e = an_event(EVENT_TCP_CLOSE);

	e.close.start_ns = 0;
	e.close.end_ns = UINT64_MAX;
	e.close.bytes[0] = UINT64_MAX;
	ok(verdict("seq == 9223372036854775807 && flow.age_ns >= 9223372036854775807 && "
		   "flow.bytes_toserver > 9223372036854775806 && seq == flow.age_ns",
		   &e, UINT64_MAX, &eth0) == 1 &&
		   verdict("seq == 9223372036854775806", &e, INT64_MAX - 1, &eth0) == 1,
	   "numbers above 2^63 - 1 count as that");
}

/* Whatever stands in the place of a line, nothing outside of it is read. */
static void test_torn_lines(void)
{
	static const char *const odd[] = { "",
					   "[",
					   "{",
					   "{}",
					   "{\"seq\"",
					   "null",
					   "{\"seq\":",
					   "{\"seq\":1",
					   "{\"vlan\":[",
					   "{\"in_iface\":\"\\",
					   "{\"in_iface\":\"\\u12\"}",
					   "{{{{{{{{{{{{",
					   "]]]]",
					   "{]]" };
	const char *text = "seq == 1 || in_iface == 'x' || 5 in vlan || has(tcp)";
	struct event e = an_event(EVENT_TCP_CLOSE);
	struct where_error error;
	struct where *w = NULL;
	unsigned held = 0, whole;

	if (where_compile(&w, text, strlen(text), &error))
		abort();
	for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
		char *copy = strdup(odd[i]);

		held += where_line(w, copy, strlen(copy));
		free(copy);
	}
	encode(&e, 1, &eth0);
	whole = where_line(w, line, line_len) + where_line(w, line, line_len - 1);
	for (size_t n = 0; n < line_len - 1; n++) {
		char *copy = malloc(n + 1);

		memcpy(copy, line, n);
		held += where_line(w, copy, n);
		free(copy);
	}
	where_free(w);
	ok(whole == 2 && !held, "a line that is cut, or is none, does not hold");
}

int main(void)
{
	rng = tap_seed(14);
	test_table();
	test_lines();
	test_schema();
	test_documentation();
	test_semantics();
	test_errors();
	test_limits();
	test_members();
	test_greatest();
	test_torn_lines();
	return tap_done();
}
