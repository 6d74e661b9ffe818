/* Any text as lines of events, by all that synfinctl does with a line: it is described, and counted
 * for a page.  What is printed has no control character and is UTF-8; the object is JSON. */
#include <stdlib.h>
#include <string.h>
#include "synfinctl/page.h"

const struct cli_command *const cli_commands[] = { NULL };

static void must(int truth)
{
	if (!truth)
		abort();
}

static void must_be_safe(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		must(c >= 0x20 || c == '\n');
		must(c != 0x7f);
		must(c != 0xc2 || (i + 1 < n && (unsigned char)s[i + 1] >= 0xa0));
	}
}

/* What @print prints of the lines, or of the page. */
struct printed {
	struct printer p;
	char *text;
	size_t n;
};

static void printed_begin(struct printed *o, const struct print_options *options)
{
	must(printer_init(&o->p, options) == CLI_FOUND);
	o->p.out.f = open_memstream(&o->text, &o->n);
}

static void printed_end(struct printed *o)
{
	fclose(o->p.out.f);
	must_be_safe(o->text, o->n);
	free(o->text);
}

static void print_line(struct printer *p, const char *line, size_t n)
{
	json_t *event = json_loadb(line, n, 0, NULL);

	if (event && json_is_object(event))
		printer_line(p, line, n, event);
	json_decref(event);
}

/* As --json prints it to a terminal. */
static void must_give_json(const struct page *page, struct digest *d)
{
	json_t *object = page_json(page, d);
	char *text = NULL;
	size_t n = 0;
	struct out o = { .f = open_memstream(&text, &n), .tty = true };

	must(o.f != NULL);
	out_json(&o, object);
	fclose(o.f);
	must(n > 1); /* not only the end of the line */
	must_be_safe(text, n);
	free(text);
	json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static char name[] = "x.pcap", *const files[] = { name, NULL };
	const struct print_options options = { .time = PRINT_UTC };
	struct page page = { .files = n % 2 ? files : NULL, .top = 3 };
	struct digest *d = malloc(sizeof *d);
	struct printed o = { 0 };

	must(d && !digest_init(d, 3, NULL));
	printed_begin(&o, &options);
	for (size_t at = 0; at < n;) {
		const char *line = (const char *)data + at;
		const char *end = memchr(line, '\n', n - at);
		size_t len = end ? (size_t)(end - line) : n - at;
		char *copy = malloc(len + 1); /* of its own: what is read beyond its end shows */

		must(copy != NULL);
		memcpy(copy, line, len);
		copy[len] = 0; /* as lines.h ends it */
		print_line(&o.p, copy, len);
		digest_line(d, copy, len);
		free(copy);
		at += len + 1;
	}
	page_print(&page, d, &o.p);
	printed_end(&o);
	must_give_json(&page, d);
	digest_done(d);
	free(d);
	return 0;
}
