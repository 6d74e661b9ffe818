/* Any text as a request: it is refused with a cause, or what is accepted is in range, and its
 * answer is a whole line of JSON that fits. */
#include "../../daemon/synfind/filters.c"
#include "../../daemon/synfind/request.c"
#include <stdlib.h>
#include "base/strbuf.h"
#include "synfind/subscriber.h"

static void must(int truth)
{
	if (!truth)
		abort();
}

static void must_be_json(const char *line, size_t n)
{
	json_t *j = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);

	must(j != NULL && line[n - 1] == '\n');
	json_decref(j);
}

static void answer(const struct request *q)
{
	struct json_subscribed s = { .id = q->has_id ? q->id : NULL,
				     .host = "host",
				     .run_id = "run",
				     .kinds = q->kinds,
				     .where = q->has_where ? q->where : NULL,
				     .policy = filter_policy_name[q->policy] };
	char line[SUBSCRIBER_ANSWER_MAX];
	struct strbuf t = { .p = line, .end = line + sizeof line };

	json_subscribed(&t, &s, 1, 2);
	must(!t.full);
	must_be_json(line, (size_t)(t.p - line));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct filter_slot slots[FILTER_SLOTS];
	struct filters filters = { .slots = slots };
	struct where_error where = { 0 };
	struct request_error e;
	struct request q;
	char line[SUBSCRIBER_ANSWER_MAX];
	struct strbuf t = { .p = line, .end = line + sizeof line };

	if (request_parse(&q, (const char *)data, n, &e) < 0) {
		must(e.text[0]);
		json_error(&t, NULL, e.text, e.at, 1, 2);
		must(!t.full);
		must_be_json(line, (size_t)(t.p - line));
		return 0;
	}
	must(!(q.kinds & ~LINES_ALL) && q.policy < POLICIES && strlen(q.id) <= REQUEST_ID_MAX &&
	     strlen(q.where) == q.where_octets);
	answer(&q);
	int slot = q.has_where ? filters_use(&filters, 0, 0, q.where, q.where_octets, 1, &where)
			       : FILTER_NONE;
	must(slot == -EINVAL ? where.text[0] && where.at : slot >= 0);
	if (slot >= 0)
		filters_release(&filters, (unsigned)slot);
	return 0;
}
