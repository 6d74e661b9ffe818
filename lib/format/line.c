#include "format/line.h"
#include <string.h>

/* The path of the value that comes next.  MUTE: it has none, being in a list, or is too long. */
enum { PATH_MAX_OCTETS = 63, MUTE = PATH_MAX_OCTETS + 1, LEVELS = 8 };

struct scan {
	const char *p, *end;
	struct line_member *member;
	unsigned members;
	unsigned len;		/* of the path */
	unsigned level[LEVELS]; /* length of the path of each object that is open, or MUTE */
	unsigned depth;
	char path[PATH_MAX_OCTETS];
};

static void found(struct scan *s, const char *text, const char *end)
{
	for (unsigned i = 0; i < s->members; i++) {
		struct line_member *m = &s->member[i];

		if (m->path_len == s->len && !memcmp(m->path, s->path, s->len)) {
			m->text = text;
			m->n = (unsigned)(end - text);
		}
	}
}

/* The next value is that of @key in the innermost object. */
static void set_path(struct scan *s, const char *key, size_t n)
{
	unsigned len = s->depth ? s->level[s->depth - 1] : 0;

	s->len = MUTE;
	if (len == MUTE || len + 1 + n > PATH_MAX_OCTETS)
		return;
	if (len)
		s->path[len++] = '.';
	memcpy(s->path + len, key, n);
	s->len = len + (unsigned)n;
}

/* A key or a value; .p is at its quote. */
static bool scan_string(struct scan *s)
{
	const char *begin = s->p++;

	while (s->p < s->end && *s->p != '"')
		s->p += *s->p == '\\' ? 2 : 1;
	if (s->p >= s->end)
		return false;
	s->p++;
	if (s->p < s->end && *s->p == ':')
		set_path(s, begin + 1, (size_t)(s->p - begin) - 2);
	else
		found(s, begin, s->p);
	return true;
}

static bool scan_open(struct scan *s)
{
	found(s, s->p, s->end);
	if (s->depth == LEVELS)
		return false;
	if (*s->p++ == '[')
		s->len = MUTE;
	s->level[s->depth++] = s->len;
	return true;
}

/* A number, true or false. */
static void scan_plain(struct scan *s)
{
	const char *begin = s->p;

	do
		s->p++;
	while (s->p < s->end && *s->p != ',' && *s->p != '}' && *s->p != ']');
	found(s, begin, s->p);
}

bool line_find(const char *line, size_t len, struct line_member *m, unsigned n)
{
	struct scan s = { .p = line, .end = line + len, .member = m, .members = n };

	for (unsigned i = 0; i < n; i++)
		m[i].n = 0;
	if (!len || *line != '{')
		return false;
	while (s.p < s.end) {
		switch (*s.p) {
		case '{':
		case '[':
			if (!scan_open(&s))
				return false;
			break;
		case '}':
		case ']':
			s.p++;
			if (!--s.depth)
				return true;
			s.len = s.level[s.depth - 1];
			break;
		case '"':
			if (!scan_string(&s))
				return false;
			break;
		case ',':
		case ':':
			s.p++;
			break;
		default:
			scan_plain(&s);
		}
	}
	return false;
}
