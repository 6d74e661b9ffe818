/* micro_json.c - what an event line costs, beside an encoder written for one kind of line alone.
 *
 * The yardstick writes 18 members with no regard for kinds, absent members, IPv6 or the end of the
 * room, and caches the second.  Both run in turns; the figure to compare is the median of the
 * ratios of CPU time per octet.  Events come in the proportions of short connections, a fifth over
 * IPv6. */
#include <string.h>
#include "base/fmt.h"
#include "base/strbuf.h"
#include "flow/event.h"
#include "format/json.h"
#include "tests/bench/micro.h"
#include "tests/bench/micro_event.h"

enum { EVENTS = 6 * 512, TURNS = 25, PASSES = 16, OUT = 1 << 18 };

static char out[OUT];

/* ---- the yardstick --------------------------------------------------------------------------- */

struct plain {
	uint64_t id, ts_ns, bytes_c, bytes_s;
	uint32_t src, dst, isn_c, isn_s, rtt_us, pk_c, pk_s, dur_us;
	uint16_t sport, dport, mss_c, mss_s;
	uint8_t fin3;
};

static struct plain plain_of(uint64_t i)
{
	uint64_t h = micro_mix(i);

	return (struct plain){ .id = i,
			       .ts_ns = 1700000000000000000u + i * 12345,
			       .bytes_c = h & 0xffffff,
			       .bytes_s = h >> 8 & 0xfffffff,
			       .src = 0x0a000000 + (uint32_t)(h & 0xffffff),
			       .dst = 0xac100000 + (uint32_t)(h >> 48),
			       .isn_c = (uint32_t)h,
			       .isn_s = (uint32_t)(h >> 32),
			       .rtt_us = h & 0x3ffff,
			       .pk_c = h & 0xfff,
			       .pk_s = h >> 12 & 0xfff,
			       .dur_us = h >> 20 & 0xffffff,
			       .sport = (uint16_t)(32768 + (h & 0x7fff)),
			       .dport = 443,
			       .mss_c = 1460,
			       .mss_s = 1460,
			       .fin3 = i & 1 };
}

static char pair[200];

static inline char *u64(char *p, uint64_t v)
{
	char t[20];
	int i = 20;

	while (v >= 100) {
		uint64_t q = v / 100;

		i -= 2;
		memcpy(t + i, pair + 2 * (v - q * 100), 2);
		v = q;
	}
	if (v >= 10) {
		i -= 2;
		memcpy(t + i, pair + 2 * v, 2);
	} else {
		t[--i] = (char)('0' + v);
	}
	memcpy(p, t + i, (size_t)(20 - i));
	return p + 20 - i;
}

static inline char *fix(char *p, uint32_t v, int w)
{
	for (int i = w - 1; i >= 0; i--) {
		p[i] = (char)('0' + v % 10);
		v /= 10;
	}
	return p + w;
}

static inline char *ip4(char *p, uint32_t a)
{
	for (int i = 24; i >= 0; i -= 8) {
		p = u64(p, a >> i & 255);
		*p++ = '.';
	}
	return p - 1;
}

#define LIT(s)	  (memcpy(p, s, sizeof s - 1), p += sizeof s - 1)
#define NUM(s, v) (LIT(",\"" s "\":"), p = u64(p, v))

static char *plain_line(char *p, const struct plain *e)
{
	static char day[32];
	static uint64_t day_s;
	uint64_t sec = e->ts_ns / 1000000000;

	if (sec != day_s) {
		time_t t = (time_t)sec;
		struct tm m;

		strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", gmtime_r(&t, &m));
		day_s = sec;
	}
	LIT("{\"event\":\"close\"");
	NUM("id", e->id);
	LIT(",\"ts\":\"");
	memcpy(p, day, 19);
	p += 19;
	*p++ = '.';
	p = fix(p, (uint32_t)(e->ts_ns % 1000000000), 9);
	LIT("Z\",\"src\":\"");
	p = ip4(p, e->src);
	LIT("\"");
	NUM("sport", e->sport);
	LIT(",\"dst\":\"");
	p = ip4(p, e->dst);
	LIT("\"");
	NUM("dport", e->dport);
	NUM("isn_client", e->isn_c);
	NUM("isn_server", e->isn_s);
	NUM("mss_client", e->mss_c);
	NUM("mss_server", e->mss_s);
	NUM("rtt_us", e->rtt_us);
	NUM("duration_us", e->dur_us);
	NUM("packets_client", e->pk_c);
	NUM("packets_server", e->pk_s);
	NUM("bytes_client", e->bytes_c);
	NUM("bytes_server", e->bytes_s);
	if (e->fin3)
		LIT(",\"three_segment\":true}\n");
	else
		LIT(",\"three_segment\":false}\n");
	return p;
}

/* ---- in turns -------------------------------------------------------------------------------- */

static struct plain plains[EVENTS];
static struct event events[EVENTS];

/* ns for each octet written; *ret_line: octets of a line. */
static double pass_plain(double *ret_line)
{
	uint64_t octets = 0;
	double t = micro_clock(CLOCK_THREAD_CPUTIME_ID);

	for (unsigned k = 0; k < PASSES; k++) {
		char *p = out;

		for (unsigned i = 0; i < EVENTS; i++) {
			char *begin = p > out + OUT - JSON_LINE_MAX ? out : p;

			p = plain_line(begin, &plains[i]);
			octets += (uint64_t)(p - begin);
		}
	}
	*ret_line = (double)octets / EVENTS / PASSES;
	return (micro_clock(CLOCK_THREAD_CPUTIME_ID) - t) * 1e9 / (double)octets;
}

static double pass_event(const struct json_context *c, double *ret_line)
{
	uint64_t octets = 0, seq = 1000000;
	double t = micro_clock(CLOCK_THREAD_CPUTIME_ID);

	for (unsigned k = 0; k < PASSES; k++) {
		struct strbuf text = { .p = out, .end = out + OUT };

		for (unsigned i = 0; i < EVENTS; i++) {
			if (text.p > text.end - JSON_LINE_MAX)
				text.p = out;

			char *begin = text.p;

			json_event(&text, &events[i], seq++, c);
			octets += (uint64_t)(text.p - begin);
		}
	}
	*ret_line = (double)octets / EVENTS / PASSES;
	return (micro_clock(CLOCK_THREAD_CPUTIME_ID) - t) * 1e9 / (double)octets;
}

int main(void)
{
	static const struct {
		const char *name;
		enum community_policy community;
	} ways[] = { { "json_event", COMMUNITY_OPEN_CLOSE },
		     { "json_event_without_community_id", COMMUNITY_OFF } };
	double plain_ns[TURNS], ns[TURNS], ratio[TURNS], plain_octets, octets;
	char name[64];

	for (unsigned i = 0; i < 100; i++) {
		pair[2 * i] = (char)('0' + i / 10);
		pair[2 * i + 1] = (char)('0' + i % 10);
	}
	for (unsigned i = 0; i < EVENTS; i++) {
		plains[i] = plain_of(i);
		events[i] = micro_event(i);
	}
	for (unsigned w = 0; w < 2; w++) {
		struct fmt_second second = { 0 };
		struct json_context c = { .iface = "eth0",
					  .community = ways[w].community,
					  .second = &second };

		pass_plain(&plain_octets); /* warm */
		pass_event(&c, &octets);
		for (unsigned i = 0; i < TURNS; i++) {
			double a = pass_plain(&plain_octets), b = pass_event(&c, &octets);

			plain_ns[i] = a * plain_octets;
			ns[i] = b * octets;
			ratio[i] = b / a;
		}
		micro_say(ways[w].name, "ns/event", micro_median(ns, TURNS));
		snprintf(name, sizeof name, "%s_octets", ways[w].name);
		micro_say(name, "octets/event", octets);
		snprintf(name, sizeof name, "%s_to_yardstick", ways[w].name);
		micro_say_goal(name, "ratio of ns/octet", micro_median(ratio, TURNS), "at_most",
			       1.5);
	}
	micro_say("json_yardstick", "ns/event", micro_median(plain_ns, TURNS));
	micro_say("json_yardstick_octets", "octets/event", plain_octets);
	return 0;
}
