#include "base/strbuf.h"
#include "base/fmt.h"

void strbuf_u64(struct strbuf *t, uint64_t v)
{
	char buf[FMT_U64_MAX + FMT_SPARE];

	strbuf_put(t, buf, (size_t)(fmt_u64(buf, v) - buf));
}

unsigned strbuf_utf8_length(const char *str)
{
	const unsigned char *s = (const unsigned char *)str;
	unsigned n = s[0] < 0x80       ? 1
		     : s[0] >> 5 == 6  ? 2
		     : s[0] >> 4 == 14 ? 3
		     : s[0] >> 3 == 30 ? 4
				       : 0;
	uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

	for (unsigned i = 1; i < n; i++) {
		if (s[i] >> 6 != 2)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return n && c >= least[n] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff) ? n : 0;
}

const bool strbuf_plain[256] = {
	[' ' ... '!'] = true,
	['#' ... '['] = true,
	[']' ... 0x7f] = true,
};

void strbuf_json_string(struct strbuf *t, const char *str)
{
	const unsigned char *s = (const unsigned char *)str;

	strbuf_lit(t, "\"");
	while (*s) {
		const unsigned char *begin = s;

		while (strbuf_plain[*s])
			s++;
		strbuf_put(t, (const char *)begin, (size_t)(s - begin));
		if (!*s)
			break;

		unsigned n = strbuf_utf8_length((const char *)s);

		if (!n) {
			strbuf_lit(t, "\\ufffd");
			s++;
		} else if (*s == '"' || *s == '\\') {
			char esc[2] = { '\\', (char)*s++ };

			strbuf_put(t, esc, 2);
		} else if (*s < 0x20) {
			static const char hex[] = "0123456789abcdef";
			char esc[6] = { '\\', 'u', '0', '0', hex[*s >> 4], hex[*s & 15] };

			strbuf_put(t, esc, sizeof esc);
			s++;
		} else {
			strbuf_put(t, (const char *)s, n);
			s += n;
		}
	}
	strbuf_lit(t, "\"");
}

void strbuf_timestamp(struct strbuf *t, uint64_t ns)
{
	char buf[FMT_TIMESTAMP_MAX + FMT_SPARE];

	strbuf_put(t, buf, (size_t)(fmt_timestamp(buf, ns) - buf));
}
