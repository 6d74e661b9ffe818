#include <jansson.h>
#include <string.h>
#include "base/cc.h"
#include "base/strbuf.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

/* What a call wrote, terminated; one at a time. */
static char out[512];
static struct strbuf text;

static struct strbuf *begin(void)
{
	text = (struct strbuf){ .p = out, .end = out + sizeof out - 1 };
	return &text;
}

/* ---- strings -------------------------------------------------------------------------------- */

/* @s written as JSON and read back by jansson; NULL: jansson refuses it. */
static json_t *there_and_back(const char *s)
{
	struct strbuf *t = begin();

	strbuf_json_string(t, s);
	return t->full ? NULL : json_loadb(out, (size_t)(t->p - out), JSON_DECODE_ANY, NULL);
}

static bool comes_back_as(const char *s, const char *want)
{
	json_t *j = there_and_back(s);
	bool good = j && !strcmp(json_string_value(j), want);

	json_decref(j);
	return good;
}

#define BAD "\xef\xbf\xbd" /* U+FFFD */

/* Valid UTF-8, by jansson's judgement, comes back as it is; anything else is still valid JSON. */
static bool sound(const char *s)
{
	json_t *valid = json_string(s), *j = there_and_back(s);
	bool good = j && (valid ? json_equal(valid, j) : !!strstr(json_string_value(j), BAD));

	json_decref(valid);
	json_decref(j);
	return good;
}

static void test_json_strings(void)
{
	static const struct {
		const char *in, *want, *why;
	} hand[] = {
		{ "", "", "the empty string" },
		{ "eth0", "eth0", "a plain name" },
		{ "a\"b\\c/d", "a\"b\\c/d", "quotes and backslashes" },
		{ "\x01\x1f\n\r\t\b\f\x7f", "\x01\x1f\n\r\t\b\f\x7f", "control characters" },
		{ "z\xc3\xbcrich\xe2\x82\xac\xf0\x9f\x98\x80",
		  "z\xc3\xbcrich\xe2\x82\xac\xf0\x9f\x98\x80", "two, three and four octets" },
		{ "\xef\xbf\xbf\xf4\x8f\xbf\xbf", "\xef\xbf\xbf\xf4\x8f\xbf\xbf",
		  "the last of three and of four" },
		{ "\xc0\x80", BAD BAD, "an overlong NUL" },
		{ "\xc1\xbf", BAD BAD, "an overlong DEL" },
		{ "\xe0\x9f\xbf", BAD BAD BAD, "overlong in three" },
		{ "\xf0\x8f\xbf\xbf", BAD BAD BAD BAD, "overlong in four" },
		{ "\xed\xa0\x80", BAD BAD BAD, "the first surrogate" },
		{ "\xed\xbf\xbf", BAD BAD BAD, "the last surrogate" },
		{ "\xed\x9f\xbf\xee\x80\x80", "\xed\x9f\xbf\xee\x80\x80",
		  "the neighbours of the surrogates" },
		{ "\xf4\x90\x80\x80", BAD BAD BAD BAD, "beyond U+10FFFF" },
		{ "\xf8\x88\x80\x80\x80", BAD BAD BAD BAD BAD, "five octets" },
		{ "\x80", BAD, "a continuation alone" },
		{ "\xe2\x82", BAD BAD, "cut by the end" },
		{ "\xe2\x82x", BAD BAD "x", "cut by a letter" },
		{ "\xf0\x9f\x98\"", BAD BAD BAD "\"", "cut by a quote" },
		{ "\xff\xfe", BAD BAD, "never in UTF-8" },
	};
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(hand); i++)
		ok(comes_back_as(hand[i].in, hand[i].want), "JSON string: %s", hand[i].why);
	for (unsigned c = 1; c < 256; c++) {
		char in[] = { 'a', (char)c, 'z', '\0' }, plain[] = { 'a', (char)c, 'z', '\0' };

		wrong += !comes_back_as(in, c < 0x80 ? plain : "a" BAD "z");
	}
	ok(!wrong, "JSON string: each octet comes back, or as U+FFFD");
	for (unsigned c = 1; c < 65536; c++) {
		char in[] = { (char)(c >> 8), (char)c, '\0' };

		wrong += !sound(in);
	}
	ok(!wrong, "JSON string: every pair of octets is well-formed or not, as for jansson");
	for (unsigned i = 0; i < 200000; i++) {
		static const unsigned char odd[] = {
			0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xed,
			0xef, 0xf0, 0xf4, 0xf5, 0xff, '"',  '\\', 'x',	0x01, 0x1f, 0xe1, 0xf1
		};
		char in[9] = { 0 };

		for (unsigned k = 0, n = 1 + (unsigned)(rand64() % 8); k < n; k++)
			in[k] = (char)odd[rand64() % sizeof odd];
		wrong += !sound(in);
	}
	ok(!wrong, "JSON string: so is what random edges of UTF-8 make");
}

/* ---- room ----------------------------------------------------------------------------------- */

enum piece { PUT, LIT, STR, U64, TIME, JSON, PIECES };

static void append(struct strbuf *t, enum piece p)
{
	switch (p) {
	case PUT:
		strbuf_put(t, "abcdef", 6);
		break;
	case LIT:
		strbuf_lit(t, "literal");
		break;
	case STR:
		strbuf_str(t, "string");
		break;
	case U64:
		strbuf_u64(t, 12345678901234567890u);
		break;
	case JSON:
		strbuf_json_string(t, "q\"\x01\xff\xe2\x82\xac");
		break;
	case TIME:
		strbuf_timestamp(t, 1709164800123456789);
		break;
	case PIECES:
		break;
	}
}

static void test_room(void)
{
	unsigned beyond = 0, unsaid = 0, early = 0, moved = 0, torn = 0, after = 0;

	for (enum piece p = 0; p < PIECES; p++) {
		append(begin(), p);
		size_t len = (size_t)(text.p - out);
		char full[sizeof out];

		memcpy(full, out, len);
		for (size_t room = 0; room <= len; room++) {
			char *mem = malloc(room + 1); /* exact, for the address sanitizer */
			struct strbuf t = { .p = mem, .end = mem + room };

			mem[room] = '#';
			append(&t, p);
			unsaid += room < len && !t.full;
			early += room == len && (t.full || t.p != t.end);
			beyond += mem[room] != '#' || t.p > t.end;
			torn += !!memcmp(mem, full, (size_t)(t.p - mem));
			moved += p < JSON && room < len && t.p != mem; /* those of one piece */

			char *p0 = t.p;

			strbuf_lit(&t, "");
			strbuf_put(&t, "x", t.full);
			after += t.full && t.p != p0;
			free(mem);
		}
	}
	ok(!unsaid, "an append that does not fit sets full, whatever the room");
	ok(!early, "an append that just fits is whole and not full");
	ok(!beyond, "nothing is written beyond the room");
	ok(!moved, "a number or a time that does not fit is not begun");
	ok(!torn, "what was written before the room ended is right");
	ok(!after, "after the first refusal everything is refused, however short");
}

int main(void)
{
	rng = tap_seed(8259);
	test_json_strings();
	test_room();
	return tap_done();
}
