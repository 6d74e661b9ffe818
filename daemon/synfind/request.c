#include "synfind/request.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "base/cc.h"
#include "base/guess.h"
#include "format/json.h"
#include "synfind/filters.h"

#define refuse(e, ...) (snprintf((e)->text, sizeof(e)->text, __VA_ARGS__), -EINVAL)

/* A string of at most @max octets, without NUL. */
static int copy_string(const json_t *j, const char *name, char *ret, size_t max,
		       struct request_error *e)
{
	size_t n = json_string_length(j);

	if (!json_is_string(j))
		return refuse(e, "%s must be a string", name);
	if (n > max)
		return refuse(e, "%s has %zu octets; at most %zu are allowed", name, n, max);
	memcpy(ret, json_string_value(j), n);
	return (int)n;
}

static int parse_events(struct request *q, const json_t *j, struct request_error *e)
{
	const json_t *name;
	size_t i;

	if (!json_is_array(j))
		return refuse(e, "events must be a list of event types");
	q->kinds = 0;
	json_array_foreach(j, i, name)
	{
		const char *s = json_string_value(name);
		struct guess g = GUESS_NONE;
		unsigned kind = 0;

		if (!s)
			return refuse(e, "events must be a list of event types");
		for (; kind < LINE_KINDS; kind++) {
			if (kind == EVENT_SNAPSHOT)
				continue; /* only by `snapshot` */
			if (!strcmp(s, line_kind_name(kind)))
				break;
			guess_offer(&g, s, "'", line_kind_name(kind), "'");
		}
		if (kind < LINE_KINDS)
			q->kinds |= 1u << kind;
		else if (strcmp(s, "hello"))
			return refuse(e, "events: there is no event type '%.40s'%s", s, g.text);
	}
	return 0;
}

static int parse_where(struct request *q, const json_t *j, struct request_error *e)
{
	int n = copy_string(j, "where", q->where, WHERE_TEXT_MAX, e);

	q->has_where = n >= 0;
	q->where_octets = n < 0 ? 0 : (size_t)n;
	return n;
}

static int parse_policy(struct request *q, const json_t *j, struct request_error *e)
{
	const char *s = json_string_value(j);

	for (q->policy = 0; s && q->policy < POLICIES; q->policy++)
		if (!strcmp(s, filter_policy_name[q->policy]))
			return 0;
	return refuse(e, "policy must be 'drop_oldest', 'drop_newest' or 'disconnect'");
}

static int parse_from(struct request *q, const json_t *j, struct request_error *e)
{
	const json_t *run = json_object_get(j, "run_id"), *seq = json_object_get(j, "seq");

	if (!json_is_object(j) || json_object_size(j) != 2 || !run || !json_is_integer(seq) ||
	    json_integer_value(seq) < 0)
		return refuse(e, "from must be {\"run_id\":\"...\",\"seq\":N}");
	q->has_from = true;
	q->from_seq = (uint64_t)json_integer_value(seq);
	return copy_string(run, "from.run_id", q->from_run_id, REQUEST_RUN_ID_MAX, e);
}

static int parse_endpoint(struct endpoint *ret, const json_t *j, struct request_error *e)
{
	const json_t *net = json_object_get(j, "net"), *port = json_object_get(j, "port");

	*ret = (struct endpoint){ .has_port = port };
	if (!json_is_object(j) || (!net && !port) ||
	    json_object_size(j) != (size_t) !!net + !!port || (net && !json_is_string(net)) ||
	    (port && !json_is_integer(port)))
		return refuse(e, "segments must be a list of {\"net\":\"10.0.0.0/8\","
				 "\"port\":443}, with one of the two at least");
	if (net && !endpoint_parse(ret, json_string_value(net)))
		return refuse(e, "segments: '%.60s' is no address or network",
			      json_string_value(net));
	if (port && (json_integer_value(port) < 0 || json_integer_value(port) > UINT16_MAX))
		return refuse(e, "segments: there is no port %lld",
			      (long long)json_integer_value(port));
	ret->port = port ? (uint16_t)json_integer_value(port) : 0;
	return 0;
}

static int parse_segments(struct request *q, const json_t *j, struct request_error *e)
{
	const json_t *element;
	size_t i;

	if (!json_is_array(j))
		return parse_endpoint(&q->segments[0], NULL, e);
	if (json_array_size(j) > ENDPOINTS_MAX)
		return refuse(e, "segments has %zu entries; at most %u are allowed",
			      json_array_size(j), (unsigned)ENDPOINTS_MAX);
	json_array_foreach(j, i, element)
	{
		if (parse_endpoint(&q->segments[i], element, e) < 0)
			return -EINVAL;
		q->nsegments++;
	}
	return 0;
}

static int parse_snapshot(struct request *q, const json_t *j, struct request_error *e)
{
	q->snapshot = json_is_true(j);
	return json_is_boolean(j) ? 0 : refuse(e, "snapshot must be true or false");
}

static int parse_id(struct request *q, const json_t *j, struct request_error *e)
{
	q->has_id = true;
	return copy_string(j, "id", q->id, REQUEST_ID_MAX, e);
}

static const struct request_member {
	const char *name;
	int (*parse)(struct request *q, const json_t *j, struct request_error *e);
} request_members[] = {
	{ "events", parse_events }, { "where", parse_where },	    { "snapshot", parse_snapshot },
	{ "from", parse_from },	    { "segments", parse_segments }, { "policy", parse_policy },
	{ "id", parse_id },
};

static int parse_member(struct request *q, const char *name, const json_t *j,
			struct request_error *e)
{
	struct guess g = GUESS_NONE;

	for (unsigned i = 0; i < ARRAY_SIZE(request_members); i++) {
		if (!strcmp(name, request_members[i].name))
			return request_members[i].parse(q, j, e);
		guess_offer(&g, name, "'", request_members[i].name, "'");
	}
	return refuse(e, "there is no member '%.40s'%s", name, g.text);
}

/* jansson itself stops at 2,048 levels. */
int request_parse(struct request *ret, const char *text, size_t n, struct request_error *e)
{
	json_error_t error;
	json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
	const char *name;
	json_t *value;
	int r = 0;

	*ret = (struct request){ .kinds = LINES_ALL };
	*e = (struct request_error){ 0 };
	if (!j) {
		e->at = error.position > 0 ? (unsigned)error.position : 0;
		return refuse(e, "this is no JSON: %.150s", error.text);
	}
	if (!json_is_object(j))
		r = refuse(e,
			   "a request is a JSON object, for example {\"events\":[\"tcp_close\"]}");
	json_object_foreach(j, name, value) if (r >= 0) r = parse_member(ret, name, value, e);
	json_decref(j);
	if (r >= 0 && ret->kinds >> EVENT_TCP_SEGMENT & 1 && !ret->nsegments)
		r = refuse(e, "events: tcp_segment comes only with segments: [...]");
	return r < 0 ? r : 0;
}
