#include "synfinctl/out.h"
#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "synfinctl/human.h"

static const char *const styles[OUT_STYLES] = {
	[OUT_GOOD] = "\33[32m", [OUT_BAD] = "\33[31m", [OUT_WARN] = "\33[33m",
	[OUT_DIM] = "\33[2m",	[OUT_BOLD] = "\33[1m",
};

enum { TEXT_MAX = 2048, WIDTH_DEFAULT = 80, WIDTH_MIN = 40, WIDTH_MAX = 1000 };

const struct cli_flag out_flags[] = {
	{ "json", 'j', CLI_BOOL, offsetof(struct out_options, json), NULL,
	  "Print JSON in place of text, an object on a line (synfind-control(7)).", NULL },
	{ "color", 0, CLI_WORD, offsetof(struct out_options, color), "auto|always|never",
	  "auto: on a terminal, unless NO_COLOR is set. [auto]", NULL },
	{ 0 },
};

void out_init(struct out *o, enum out_color color)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM"), *columns = getenv("COLUMNS");
	struct winsize w = { 0 };
	int width = columns ? atoi(columns) : 0;

	*o = (struct out){ .f = stdout, .tty = isatty(STDOUT_FILENO), .width = WIDTH_DEFAULT };
	o->utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	o->color = color == OUT_COLOR_ALWAYS || (color == OUT_COLOR_AUTO && o->tty &&
						 !(no && *no) && term && strcmp(term, "dumb") != 0);
	if (o->tty && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col)
		o->width = w.ws_col;
	else if (width > 0)
		o->width = (unsigned)width;
	if (o->width < WIDTH_MIN)
		o->width = WIDTH_MIN;
	if (o->width > WIDTH_MAX)
		o->width = WIDTH_MAX;
}

void out_cell(struct out *o, enum out_style style, int width, const char *s)
{
	char safe[TEXT_MAX];
	const char *on = o->color ? styles[style] : NULL;
	int pad;

	human_safe(safe, sizeof safe, s);
	pad = abs(width) - (int)human_columns(safe);
	if (width < 0 && pad > 0)
		fprintf(o->f, "%*s", pad, "");
	fprintf(o->f, "%s%s%s", on ? on : "", safe, on ? "\33[0m" : "");
	if (width > 0 && pad > 0)
		fprintf(o->f, "%*s", pad, "");
}

void out_text(struct out *o, const char *s)
{
	out_cell(o, OUT_PLAIN, 0, s);
}

void out_printf(struct out *o, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	out_text(o, text);
}

void out_json_line(struct out *o, const char *line, size_t n)
{
	if (!o->tty) {
		fwrite(line, 1, n, o->f);
	} else {
		for (size_t i = 0; i < n; i++) {
			unsigned char c = (unsigned char)line[i];

			if (c < 0x20) { /* white space between tokens */
				putc(' ', o->f);
			} else if (c == 0x7f) {
				fprintf(o->f, "\\u007f");
			} else if (c == 0xc2 && i + 1 < n && (unsigned char)line[i + 1] < 0xa0) {
				fprintf(o->f, "\\u00%02x", (unsigned)(unsigned char)line[++i]);
			} else {
				putc(c, o->f);
			}
		}
	}
	out_end(o);
}

void out_json(struct out *o, const json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	if (text)
		out_json_line(o, text, strlen(text));
	free(text);
}

void out_end(struct out *o)
{
	putc('\n', o->f);
	if (o->tty)
		fflush(o->f);
}
