/* Any octets as event lines that synfinctl reads: from a descriptor into lines, then described,
 * printed, and drawn as a ladder.  The first octet chooses the width and how.  Whatever comes, no
 * control character gets out but newlines, no row is wider than it may be, and in SVG nothing
 * foreign becomes an element. */
#include <jansson.h>
#include <locale.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/strbuf.h"
#include "synfinctl/describe.h"
#include "synfinctl/human.h"
#include "synfinctl/lines.h"
#include "synfinctl/print.h"
#include "synfinctl/sequence.h"
#include "synfinctl/steps.h"
#include "synfinctl/tally.h"

enum { ROWS_MAX = 200 };

static void must(int truth)
{
	if (!truth)
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	setlocale(LC_CTYPE, "C.UTF-8");
	return 0;
}

/* What is printed goes here. */
struct sheet {
	FILE *f;
	char *text;
	size_t n;
};

static void sheet_open(struct sheet *s, struct out *out, unsigned width, bool utf8)
{
	s->f = open_memstream(&s->text, &s->n);
	must(s->f != NULL);
	*out = (struct out){ .f = s->f, .tty = true, .utf8 = utf8, .width = width };
}

/* @width 0: lines of any length. */
static void sheet_check(struct sheet *s, unsigned width)
{
	fclose(s->f);
	for (char *line = s->text, *end;
	     (end = memchr(line, '\n', s->n - (size_t)(line - s->text))); line = end + 1) {
		*end = 0;
		must(strlen(line) == (size_t)(end - line));
		for (const char *p = line; *p;) {
			unsigned n = strbuf_utf8_length(p);
			const unsigned char *c = (const unsigned char *)p;

			must(n > 0 && *c >= 0x20 && *c != 0x7f);
			must(!(n == 2 && c[0] == 0xc2 && c[1] < 0xa0));
			p += n;
		}
		must(!width || human_columns(line) <= width);
	}
	free(s->text);
}

/* Each '<' begins an element that the diagram has. */
static void svg_check(const char *text, size_t n)
{
	static const char *const elements[] = { "svg ",	 "style>", "rect ", "title>",
						"text ", "line ",  "path ", "/" };

	for (const char *p = text; (p = memchr(p, '<', n - (size_t)(p - text))); p++) {
		int known = 0;

		for (unsigned i = 0; i < sizeof elements / sizeof *elements; i++)
			known |= !strncmp(p + 1, elements[i], strlen(elements[i]));
		must(known);
	}
}

struct story {
	struct steps steps;
	struct sequence_text text;
	struct sequence_head head;
	struct sequence_row rows[ROWS_MAX];
	size_t n, events;
};

static void story_rows(struct story *s)
{
	struct sequence_row row;

	while (steps_next(&s->steps, &row)) {
		sequence_text_row(&s->text, &row);
		if (s->n < ROWS_MAX)
			s->rows[s->n++] = row;
	}
}

static void story_take(struct story *s, const json_t *event, struct out *out)
{
	if (!s->events++) {
		steps_head(event, &s->head);
		sequence_text_begin(&s->text, out, &s->head);
	}
	steps_take(&s->steps, event);
	must(s->steps.n <= STEPS_ROWS);
	story_rows(s);
}

static void story_end(struct story *s)
{
	struct description d;
	struct sheet svg = { 0 };
	struct out out;

	steps_end(&s->steps);
	story_rows(s);
	steps_outcome(&s->steps, &d);
	if (s->events)
		sequence_text_end(&s->text, d.style, d.text);
	sheet_open(&svg, &out, 80, true);
	sequence_svg(svg.f, &s->head, s->rows, s->n, d.style, d.text);
	fflush(svg.f);
	svg_check(svg.text, svg.n);
	sheet_check(&svg, 0);
	steps_done(&s->steps);
}

/* Prints a line in each way. */
static void print_ways(const char *line, size_t n, const json_t *event, bool utf8)
{
	static const struct print_options ways[] = {
		{ .time = PRINT_UTC },
		{ .time = PRINT_DELTA },
		{ .json = true },
		{ .fields = { 3, { "tcp.reason", "src_ip", "in_iface" } } },
	};

	for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
		struct sheet sheet = { 0 };
		struct printer p;

		must(printer_init(&p, &ways[i]) == 0);
		sheet_open(&sheet, &p.out, 80, utf8);
		printer_line(&p, line, n, event);
		/* Twice: columns stay as wide as the first line made them. */
		printer_line(&p, line, n, event);
		if (ways[i].fields.n) {
			fclose(sheet.f); /* divided by tabs */
			free(sheet.text);
		} else {
			sheet_check(&sheet, 0);
		}
	}
}

static void take_line(struct story *s, struct tally *t, struct out *out, const char *line, size_t n)
{
	json_t *event = json_loadb(line, n, 0, NULL);

	if (json_is_object(event)) {
		print_ways(line, n, event, out->utf8);
		story_take(s, event, out);
		tally_add(t, event);
	}
	json_decref(event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	unsigned how = n ? data[0] : 0, width = 60 + how % 64 * 3;
	int fd = memfd_create("lines", MFD_CLOEXEC);
	static struct story story;
	struct sheet sheet = { 0 }, groups = { 0 };
	struct tally tally;
	struct lines lines;
	struct out out;
	char *line;
	size_t length;

	must(fd >= 0);
	if (n)
		must(write(fd, data + 1, n - 1) == (ssize_t)n - 1);
	must(lseek(fd, 0, SEEK_SET) == 0);
	memset(&story, 0, sizeof story);
	steps_init(&story.steps, how & 64, how & 128 ? 1000000000 : 0);
	tally_init(&tally, (enum tally_by)(how % (TALLY_INTERFACE + 1)));
	sheet_open(&sheet, &out, width, how & 1);
	must(lines_init(&lines, fd));
	while (lines_fill(&lines) > 0)
		while (lines_next(&lines, &line, &length))
			take_line(&story, &tally, &out, line, length);
	if (lines_rest(&lines, &line, &length))
		take_line(&story, &tally, &out, line, length);
	story_end(&story);
	sheet_check(&sheet, width);
	sheet_open(&groups, &out, width, how & 1);
	tally_print(&tally, &out, how & 2);
	sheet_check(&groups, 0);
	tally_done(&tally);
	lines_done(&lines);
	close(fd);
	return 0;
}
