/* Any octets as an expression, and, after four octets ff, as a line that it is evaluated on.
 *
 * What compiles gives the same verdict by records and by their lines; what is refused says where
 * and why, in UTF-8. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/strbuf.h"
#include "format/where.h"
#include "tests/support/records.h"

static void must(int truth)
{
	if (!truth)
		abort();
}

enum { RECORDS = 4 * EVENT_KINDS };

static struct {
	struct event event;
	struct json_context context;
	char line[JSON_LINE_MAX];
	size_t n;
} records[RECORDS];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static struct fmt_second second;

	(void)argc, (void)argv;
	rng = 14;
	for (unsigned i = 0; i < RECORDS; i++) {
		struct strbuf t = { .p = records[i].line, .end = records[i].line + JSON_LINE_MAX };

		records[i].event = random_event(i % EVENT_KINDS);
		records[i].context = random_context(&second);
		json_event(&t, &records[i].event, i, &records[i].context);
		must(!t.full);
		records[i].n = (size_t)(t.p - records[i].line);
	}
	return 0;
}

/* In memory of exactly its size. */
static char *copy_of(const void *octets, size_t n)
{
	char *copy = malloc(n);

	if (n)
		memcpy(copy, octets, n);
	return copy;
}

static void judge(const struct where *w)
{
	for (unsigned i = 0; i < RECORDS; i++) {
		bool holds = where_event(w, &records[i].event, i, &records[i].context);

		must(holds == where_line(w, records[i].line, records[i].n));
		must(!holds || where_kinds(w) >> records[i].event.kind & 1);
	}
}

static void complain(const struct where_error *e, size_t n)
{
	size_t len = strnlen(e->text, sizeof e->text);

	must(e->at >= 1 && e->at <= n + 1 && len && len < sizeof e->text);
	for (const char *s = e->text; *s; s += strbuf_utf8_length(s))
		must(strbuf_utf8_length(s));
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	const uint8_t *line = memmem(in, n, "\xff\xff\xff\xff", 4);
	size_t len = line ? (size_t)(line - in) : n;
	char *text = copy_of(in, len);
	struct where_error e = { 0 };
	struct where *w;
	int r = where_compile(&w, text, len, &e);

	free(text);
	must(r == 0 || r == -EINVAL);
	if (r) {
		complain(&e, len);
		return 0;
	}
	judge(w);
	if (line) {
		size_t rest = n - len - 4;
		char *copy = copy_of(line + 4, rest);

		where_line(w, copy, rest);
		free(copy);
	}
	where_free(w);
	return 0;
}
