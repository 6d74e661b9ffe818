#include "flow/answers.h"
#include <string.h>
#include "flow/conn.h"
#include "wire/tcpopt.h"

static uint64_t first_ns(const struct conn *c)
{
	return c->start_ns + dur40_ns(c->since[SIDE_B]);
}

/* One more, in place of the oldest. */
static void answers_push(struct answers *a, struct answer one)
{
	if (a->n == ANSWERS_MAX)
		memmove(a->repeated, a->repeated + 1, --a->n * sizeof one);
	a->repeated[a->n++] = one;
}

void answers_add(struct answers *a, const struct conn *c, const struct segment *s)
{
	struct tcpopt o = tcpopt_parse(s->options);
	struct answer one = { s->ts_ns, o.tsval, o.timestamps };

	if (a->start_ns != c->start_ns) {
		a->start_ns = c->start_ns;
		a->n = 0;
	}
	uint64_t before = a->n ? a->repeated[a->n - 1].ts_ns : first_ns(c);

	if (s->ts_ns < before + COPY_NS) /* the client answers the one before */
		one.ts_ns = before;
	answers_push(a, one);
}

uint64_t answers_rtt(const struct answers *a, const struct conn *c, const struct segment *s)
{
	uint64_t at = first_ns(c);

	if (c->retrans[SIDE_B]) {
		bool ours = a && a->start_ns == c->start_ns && a->n;
		struct tcpopt o = tcpopt_parse(s->options);
		unsigned i = ours ? a->n : 0;

		/* Copies of the first one alone: all that came is that one. */
		bool known = ours && a->repeated[i - 1].ts_ns == at;

		while (!known && i-- > 0)
			if (o.timestamps && a->repeated[i].stamped &&
			    a->repeated[i].tsval == o.tsecr) {
				at = a->repeated[i].ts_ns;
				known = true;
			}
		if (!known)
			return DURATION_UNKNOWN;
	}
	return s->ts_ns > at ? s->ts_ns - at : 0;
}
