#include "synfinctl/sequence.h"
#include <string.h>
#include "base/strbuf.h"
#include "synfinctl/human.h"

/* ---- a line of cells ------------------------------------------------------------------------- */

enum { CELLS_MAX = 240, SAFE_MAX = 1024 };

struct cell {
	char octets[5]; /* one character; "": the second column of the one before */
	enum out_style style;
};

struct canvas {
	unsigned width;
	struct cell cells[CELLS_MAX];
};

static void canvas_clear(struct canvas *c, unsigned width)
{
	c->width = width < CELLS_MAX ? width : CELLS_MAX;
	for (unsigned i = 0; i < c->width; i++)
		c->cells[i] = (struct cell){ " ", OUT_PLAIN };
}

/* Puts @s at column @x, up to @end.  Returns the column after it. */
static unsigned canvas_put(struct canvas *c, unsigned x, unsigned end, enum out_style style,
			   const char *s)
{
	char safe[SAFE_MAX], one[5];

	human_safe(safe, sizeof safe, s);
	if (end > c->width)
		end = c->width;
	for (const char *p = safe; *p;) {
		unsigned n = strbuf_utf8_length(p), columns;

		n = n ? n : 1;
		snprintf(one, sizeof one, "%.*s", (int)n, p);
		p += n;
		columns = human_columns(one);
		if (!columns)
			continue; /* it would have to share a cell */
		if (x + columns > end)
			break;
		memcpy(c->cells[x].octets, one, sizeof one);
		c->cells[x++].style = style;
		for (; columns > 1; columns--)
			c->cells[x++] = (struct cell){ "", style };
	}
	return x;
}

/* The same, to the left of column @end. */
static void canvas_put_right(struct canvas *c, unsigned begin, unsigned end, enum out_style style,
			     const char *s)
{
	char safe[SAFE_MAX];
	unsigned columns;

	human_safe(safe, sizeof safe, s);
	columns = human_columns(safe);
	canvas_put(c, columns < end - begin ? end - columns : begin, end, style, safe);
}

static void canvas_print(const struct canvas *c, struct out *out)
{
	char run[CELLS_MAX * sizeof c->cells[0].octets];
	unsigned n = c->width;

	while (n && !strcmp(c->cells[n - 1].octets, " "))
		n--;
	for (unsigned i = 0, at = 0; i < n; i++) {
		at += (unsigned)snprintf(run + at, sizeof run - at, "%s", c->cells[i].octets);
		if (i + 1 == n || c->cells[i + 1].style != c->cells[i].style) {
			out_cell(out, c->cells[i].style, 0, run);
			at = 0;
		}
	}
	out_end(out);
}

/* ---- words in several lines ------------------------------------------------------------------ */

/* The next piece of *@s that fits into @columns, cut between words if possible.  Safe text.  False:
 * nothing is left. */
static bool wrap(const char **s, unsigned columns, char *ret, size_t size)
{
	const char *p = *s, *cut = NULL;
	unsigned used = 0;
	char one[5];

	while (*p == ' ')
		p++;
	*s = p;
	while (*p && used <= columns) {
		unsigned n = strbuf_utf8_length(p);

		n = n ? n : 1;
		if (*p == ' ')
			cut = p;
		snprintf(one, sizeof one, "%.*s", (int)n, p);
		used += human_columns(one);
		if (used > columns)
			break;
		p += n;
	}
	if (*p && cut)
		p = cut;
	if (p == *s && *p) /* wider than a column */
		p++;
	snprintf(ret, size, "%.*s", (int)(p - *s), *s);
	*s = p;
	return *ret;
}

static const char legend[] =
	"seq: first octet in it. ack: octet expected next. len: octets of data.";

/* ---- text ------------------------------------------------------------------------------------ */

enum {
	TIME_COLUMNS = 10,
	SINCE_COLUMNS = 11,
	STATE_COLUMNS = 12,
	NARROW = 72, /* below: no time since the segment before */
	WIDE = 116,  /* from here: states and words outside */
	INSIDE_MAX = 72,
	WORDS_MIN = 34,
	WORDS_MAX = 48,
};

struct glyphs {
	const char *line, *fold_line, *dash, *dot, *right, *left, *fold;
};

static const struct glyphs utf8_glyphs = { "│", "┊", "─", "╌", "►", "◄", "…" },
			   ascii_glyphs = { "|", ":", "-", ".", ">", "<", "..." };

static const struct glyphs *glyphs_of(const struct sequence_text *t)
{
	return t->out->utf8 ? &utf8_glyphs : &ascii_glyphs;
}

static void layout(struct sequence_text *t)
{
	unsigned words;

	t->width = t->out->width < CELLS_MAX ? t->out->width : CELLS_MAX;
	t->wide = t->width >= WIDE;
	t->since_x = t->width >= NARROW ? TIME_COLUMNS : 0;
	t->client_x = TIME_COLUMNS + (t->since_x ? SINCE_COLUMNS : 0) + 1;
	if (!t->wide) {
		t->server_x = t->width - 1;
		if (t->server_x > t->client_x + INSIDE_MAX)
			t->server_x = t->client_x + INSIDE_MAX;
		t->words_x = 0;
		return;
	}
	t->client_x += STATE_COLUMNS + 2;
	words = t->width / 4 > WORDS_MIN ? t->width / 4 : WORDS_MIN;
	if (words > WORDS_MAX)
		words = WORDS_MAX;
	t->server_x = t->width - words - STATE_COLUMNS - 4;
	if (t->server_x > t->client_x + INSIDE_MAX)
		t->server_x = t->client_x + INSIDE_MAX;
	t->words_x = t->server_x + STATE_COLUMNS + 4;
}

static void print_wrapped(struct out *out, unsigned columns, enum out_style style, const char *s)
{
	char safe[SAFE_MAX], piece[SAFE_MAX];
	const char *at = safe;

	human_safe(safe, sizeof safe, s);
	while (wrap(&at, columns, piece, sizeof piece)) {
		out_styled(out, style, piece);
		out_end(out);
	}
}

static void lifelines(const struct sequence_text *t, struct canvas *c, bool fold)
{
	const struct glyphs *g = glyphs_of(t);
	const char *line = fold ? g->fold_line : g->line;

	canvas_put(c, t->client_x, t->client_x + 1, OUT_DIM, line);
	canvas_put(c, t->server_x, t->server_x + 1, OUT_DIM, line);
}

/* What stands over the lifelines: the ends if there is space for both, else only who they are. */
static void print_ends(struct sequence_text *t, const struct sequence_head *head)
{
	char client[SEQUENCE_END + 8], server[SEQUENCE_END + 8];
	unsigned left = t->wide ? t->client_x - STATE_COLUMNS - 1 : t->client_x;
	unsigned right = t->wide ? t->words_x - 1 : t->server_x + 1;
	struct canvas c;

	snprintf(client, sizeof client, "client %s", head->client);
	snprintf(server, sizeof server, "server %s", head->server);
	if (human_columns(client) + human_columns(server) + 2 > right - left) {
		snprintf(client, sizeof client, "client");
		snprintf(server, sizeof server, "server");
	}
	canvas_clear(&c, t->width);
	canvas_put_right(&c, 0, TIME_COLUMNS, OUT_DIM, "seconds");
	if (t->since_x)
		canvas_put_right(&c, t->since_x, t->since_x + SINCE_COLUMNS, OUT_DIM, "after");
	canvas_put(&c, left, right, OUT_BOLD, client);
	canvas_put_right(&c, left, right, OUT_BOLD, server);
	canvas_print(&c, t->out);
}

void sequence_text_begin(struct sequence_text *t, struct out *out, const struct sequence_head *head)
{
	char title[4 * SEQUENCE_END + 8];

	*t = (struct sequence_text){ .out = out };
	layout(t);
	snprintf(title, sizeof title, "%s > %s, %s", head->client, head->server, head->when);
	print_wrapped(out, t->width, OUT_BOLD, title);
	print_wrapped(out, t->width, OUT_DIM, legend);
	out_end(out);
	print_ends(t, head);
}

/* 0.000264, 12345.0003: ten columns. */
static struct human_short seconds(uint64_t ns)
{
	struct human_short s;
	double v = (double)ns / 1e9;

	snprintf(s.s, sizeof s.s, "%.*f", v < 1000 ? 6 : v < 100000 ? 3 : 0, v);
	return s;
}

static void draw_times(const struct sequence_text *t, struct canvas *c,
		       const struct sequence_row *row)
{
	char since[48];

	canvas_put_right(c, 0, TIME_COLUMNS, OUT_DIM, seconds(row->at_ns).s);
	if (!t->since_x || !row->since_ns)
		return;
	snprintf(since, sizeof since, "+%s", human_duration(row->since_ns).s);
	canvas_put_right(c, t->since_x, t->since_x + SINCE_COLUMNS, OUT_DIM, since);
}

/* The longest text that fits into @columns. */
static const char *label_of(const struct sequence_row *row, unsigned columns)
{
	return human_columns(row->label) <= columns || !*row->brief ? row->label : row->brief;
}

static void draw_arrow(const struct sequence_text *t, struct canvas *c,
		       const struct sequence_row *row)
{
	const struct glyphs *g = glyphs_of(t);
	unsigned begin = t->client_x + 1, end = t->server_x;
	char label[SEQUENCE_LABEL + 2];

	for (unsigned x = begin; x < end; x++)
		canvas_put(c, x, x + 1, row->style, row->kind == SEQUENCE_AGAIN ? g->dot : g->dash);
	/* Near its sender, after two dashes. */
	snprintf(label, sizeof label, " %s ", label_of(row, end - begin - 7));
	if (row->to_client) {
		canvas_put(c, begin, begin + 1, row->style, g->left);
		canvas_put_right(c, begin + 2, end - 2, row->style, label);
	} else {
		canvas_put(c, end - 1, end, row->style, g->right);
		canvas_put(c, begin + 2, end - 2, row->style, label);
	}
}

static void draw_fold(const struct sequence_text *t, struct canvas *c,
		      const struct sequence_row *row)
{
	unsigned end = t->server_x, x = t->client_x + 3;

	x = canvas_put(c, x, end, OUT_DIM, glyphs_of(t)->fold);
	canvas_put(c, x + 1, end, OUT_DIM, label_of(row, end - x - 2));
}

/* Prints the canvas with the words in columns @begin to @end, and more lines if they need them. */
static void print_words(const struct sequence_text *t, struct canvas *c,
			const struct sequence_row *row, unsigned begin, unsigned end)
{
	char safe[SAFE_MAX], piece[SAFE_MAX];
	const char *at = safe;
	bool more;

	human_safe(safe, sizeof safe, row->words);
	more = wrap(&at, end - begin, piece, sizeof piece);
	do {
		if (more)
			canvas_put(c, begin, end, row->style, piece);
		canvas_print(c, t->out);
		canvas_clear(c, t->width);
		lifelines(t, c, false);
		more = wrap(&at, end - begin, piece, sizeof piece);
	} while (more);
}

static void draw_states(const struct sequence_text *t, struct canvas *c,
			const struct sequence_row *row)
{
	if (t->wide) {
		canvas_put_right(c, t->client_x - STATE_COLUMNS - 1, t->client_x - 1, OUT_GOOD,
				 row->client_state);
		canvas_put(c, t->server_x + 2, t->server_x + 2 + STATE_COLUMNS, OUT_GOOD,
			   row->server_state);
	} else {
		canvas_put(c, t->client_x + 2, t->client_x + 2 + STATE_COLUMNS, OUT_GOOD,
			   row->client_state);
		canvas_put_right(c, t->server_x - 1 - STATE_COLUMNS, t->server_x - 1, OUT_GOOD,
				 row->server_state);
	}
}

/* States and words inside, in lines of their own. */
static void print_inside(const struct sequence_text *t, struct canvas *c,
			 const struct sequence_row *row)
{
	unsigned begin = t->client_x + 2, end = t->server_x - 1;
	bool states = !t->wide && (*row->client_state || *row->server_state);

	if (states) {
		draw_states(t, c, row);
		begin += STATE_COLUMNS + 2;
		if (human_columns(row->words) <= end - begin &&
		    (!*row->server_state ||
		     human_columns(row->words) + human_columns(row->server_state) + 2 <=
			     end - begin)) {
			print_words(t, c, row, begin, end);
			return;
		}
		canvas_print(c, t->out);
		canvas_clear(c, t->width);
		lifelines(t, c, false);
		begin -= STATE_COLUMNS + 2;
	}
	print_words(t, c, row, begin, end);
}

void sequence_text_row(struct sequence_text *t, const struct sequence_row *row)
{
	struct canvas c;

	canvas_clear(&c, t->width);
	draw_times(t, &c, row);
	lifelines(t, &c, row->kind == SEQUENCE_FOLD);
	if (row->kind == SEQUENCE_FOLD)
		draw_fold(t, &c, row);
	else if (row->kind != SEQUENCE_NOTE)
		draw_arrow(t, &c, row);
	if (t->wide)
		draw_states(t, &c, row);
	if (row->kind == SEQUENCE_NOTE) {
		print_inside(t, &c, row);
	} else if (t->wide) {
		print_words(t, &c, row, t->words_x, t->width);
	} else {
		canvas_print(&c, t->out);
		if (!*row->words && !*row->client_state && !*row->server_state)
			return;
		canvas_clear(&c, t->width);
		lifelines(t, &c, false);
		print_inside(t, &c, row);
	}
}

void sequence_text_end(struct sequence_text *t, enum out_style style, const char *outcome)
{
	out_end(t->out);
	print_wrapped(t->out, t->width, style, outcome);
}

/* ---- SVG ------------------------------------------------------------------------------------- */

enum {
	SVG_WIDTH = 1260,
	SVG_TIME = 84, /* right ends of the columns of time */
	SVG_SINCE = 172,
	SVG_CLIENT = 300,
	SVG_SERVER = 800,
	SVG_WORDS = 925,
	SVG_TOP = 108,
	SVG_ROW = 30,
	SVG_LINE = 16, /* of words */
	SVG_WORDS_COLUMNS = 45,
	SVG_NOTE_COLUMNS = 66,
};

static const char svg_style[] =
	"text{font:13px system-ui,'DejaVu Sans',Arial,sans-serif;fill:#222}"
	".t{font:12px ui-monospace,'DejaVu Sans Mono',monospace;fill:#667}"
	".l{font:12px ui-monospace,'DejaVu Sans Mono',monospace}"
	".b{font-weight:bold;font-size:15px}.d{fill:#667}.s{fill:#1a6b2c;font-weight:600}"
	".e{text-anchor:end}.m{text-anchor:middle}"
	"line{stroke:#445;stroke-width:1.5}.life{stroke:#99a;stroke-width:2}"
	".again{stroke-dasharray:5 4}.fold{stroke-dasharray:2 4}.white{stroke:#fff;stroke-width:4}"
	".good{fill:#1a6b2c}.bad{fill:#b3171b}.warn{fill:#8a5300}"
	"line.bad{stroke:#b3171b}line.warn{stroke:#b37000}line.good{stroke:#1a6b2c}"
	"path{fill:#445}path.bad{fill:#b3171b}path.warn{fill:#b37000}path.good{fill:#1a6b2c}";

static const char *svg_class(enum out_style style)
{
	static const char *const classes[OUT_STYLES] = {
		[OUT_PLAIN] = "",    [OUT_GOOD] = "good", [OUT_BAD] = "bad",
		[OUT_WARN] = "warn", [OUT_DIM] = "d",	  [OUT_BOLD] = "",
	};

	return classes[style];
}

/* Foreign text as the content of an element. */
static void svg_escaped(FILE *f, const char *s)
{
	char safe[SAFE_MAX];

	human_safe(safe, sizeof safe, s);
	for (const char *p = safe; *p; p++)
		switch (*p) {
		case '<':
			fputs("&lt;", f);
			break;
		case '>':
			fputs("&gt;", f);
			break;
		case '&':
			fputs("&amp;", f);
			break;
		default:
			putc(*p, f);
		}
}

static void svg_text(FILE *f, unsigned x, unsigned y, const char *kind, enum out_style style,
		     const char *s)
{
	if (!*s)
		return;
	fprintf(f, "<text x=\"%u\" y=\"%u\" class=\"%s %s\">", x, y, kind, svg_class(style));
	svg_escaped(f, s);
	fputs("</text>\n", f);
}

static void svg_line(FILE *f, unsigned x1, unsigned y1, unsigned x2, unsigned y2, const char *kind,
		     enum out_style style)
{
	fprintf(f, "<line x1=\"%u\" y1=\"%u\" x2=\"%u\" y2=\"%u\" class=\"%s %s\"/>\n", x1, y1, x2,
		y2, kind, svg_class(style));
}

static unsigned svg_words(FILE *f, unsigned x, unsigned y, unsigned columns, enum out_style style,
			  const char *s)
{
	char safe[SAFE_MAX], piece[SAFE_MAX];
	const char *at = safe;
	unsigned lines = 0;

	human_safe(safe, sizeof safe, s);
	while (wrap(&at, columns, piece, sizeof piece)) {
		if (f)
			svg_text(f, x, y + lines * SVG_LINE, "", style, piece);
		lines++;
	}
	return lines;
}

/* Pixels from this row to the next one. */
static unsigned svg_height(const struct sequence_row *row)
{
	unsigned columns = row->kind == SEQUENCE_NOTE ? SVG_NOTE_COLUMNS : SVG_WORDS_COLUMNS;
	unsigned lines = svg_words(NULL, 0, 0, columns, OUT_PLAIN, row->words);

	if (row->kind == SEQUENCE_FOLD)
		return SVG_ROW + 8; /* the label of the next arrow stands above it */
	return lines > 1 ? SVG_ROW + (lines - 1) * SVG_LINE : SVG_ROW;
}

static void svg_arrow(FILE *f, const struct sequence_row *row, unsigned y)
{
	bool left = row->to_client;
	unsigned from = left ? SVG_SERVER : SVG_CLIENT,
		 tip = left ? SVG_CLIENT + 2 : SVG_SERVER - 2;

	svg_line(f, from, y, left ? tip + 8 : tip - 8, y,
		 row->kind == SEQUENCE_AGAIN ? "again" : "", row->style);
	fprintf(f, "<path d=\"M%u %u l%d -5 v10 z\" class=\"%s\"/>\n", tip, y, left ? 10 : -10,
		svg_class(row->style));
	svg_text(f, left ? SVG_SERVER - 12 : SVG_CLIENT + 12, y - 5, left ? "l e" : "l", row->style,
		 label_of(row, 64));
}

/* A lifeline is dotted there. */
static void svg_fold(FILE *f, unsigned x, unsigned y)
{
	svg_line(f, x, y - 12, x, y + 12, "white", OUT_PLAIN);
	svg_line(f, x, y - 11, x, y + 12, "life fold", OUT_PLAIN);
}

static void svg_row(FILE *f, const struct sequence_row *row, unsigned y)
{
	char since[48];

	svg_text(f, SVG_TIME, y + 4, "t e", OUT_PLAIN, seconds(row->at_ns).s);
	if (row->since_ns) {
		snprintf(since, sizeof since, "+%s", human_duration(row->since_ns).s);
		svg_text(f, SVG_SINCE, y + 4, "t e", OUT_PLAIN, since);
	}
	svg_text(f, SVG_CLIENT - 8, y + 4, "s e", OUT_PLAIN, row->client_state);
	svg_text(f, SVG_SERVER + 8, y + 4, "s", OUT_PLAIN, row->server_state);
	switch (row->kind) {
	case SEQUENCE_FOLD:
		svg_fold(f, SVG_CLIENT, y);
		svg_fold(f, SVG_SERVER, y);
		fprintf(f, "<text x=\"%d\" y=\"%u\" class=\"m d\">… ",
			(SVG_CLIENT + SVG_SERVER) / 2, y + 4);
		svg_escaped(f, row->label);
		fputs("</text>\n", f);
		break;
	case SEQUENCE_NOTE:
		svg_words(f, SVG_CLIENT + 12, y + 4, SVG_NOTE_COLUMNS, row->style, row->words);
		break;
	default:
		svg_arrow(f, row, y);
		svg_words(f, SVG_WORDS, y + 4, SVG_WORDS_COLUMNS, row->style, row->words);
	}
}

void sequence_svg(FILE *f, const struct sequence_head *head, const struct sequence_row *rows,
		  size_t n, enum out_style style, const char *outcome)
{
	char title[4 * SEQUENCE_END + 8];
	unsigned long height = SVG_TOP + SVG_ROW + 70;
	unsigned y = SVG_TOP + SVG_ROW;

	for (size_t i = 0; i < n; i++)
		height += svg_height(&rows[i]);
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%lu\" "
		"viewBox=\"0 0 %d %lu\">\n<style>%s</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
		SVG_WIDTH, height, SVG_WIDTH, height, svg_style);
	snprintf(title, sizeof title, "%s > %s, %s", head->client, head->server, head->when);
	fputs("<title>", f);
	svg_escaped(f, title);
	fputs("</title>\n", f);
	svg_text(f, 16, 28, "b", OUT_PLAIN, title);
	svg_text(f, 16, 50, "", OUT_DIM, legend);
	svg_text(f, SVG_TIME, SVG_TOP, "t e", OUT_PLAIN, "seconds");
	svg_text(f, SVG_SINCE, SVG_TOP, "t e", OUT_PLAIN, "after");
	snprintf(title, sizeof title, "client %s", head->client);
	svg_text(f, SVG_CLIENT, SVG_TOP - 18, "b m", OUT_PLAIN, title);
	snprintf(title, sizeof title, "server %s", head->server);
	svg_text(f, SVG_SERVER, SVG_TOP - 18, "b m", OUT_PLAIN, title);
	fprintf(f, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%lu\" class=\"life\"/>\n", SVG_CLIENT,
		SVG_TOP - 8, SVG_CLIENT, height - 60);
	fprintf(f, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%lu\" class=\"life\"/>\n", SVG_SERVER,
		SVG_TOP - 8, SVG_SERVER, height - 60);
	for (size_t i = 0; i < n; i++) {
		svg_row(f, &rows[i], y);
		y += svg_height(&rows[i]);
	}
	svg_text(f, 16, (unsigned)height - 24, "b", style, outcome);
	fputs("</svg>\n", f);
}
