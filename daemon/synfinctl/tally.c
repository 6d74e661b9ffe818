#include "synfinctl/tally.h"
#include <stdlib.h>
#include <string.h>
#include "synfinctl/cli.h"
#include "synfinctl/describe.h"
#include "synfinctl/js.h"
#include "synfinctl/human.h"

void tally_init(struct tally *t, enum tally_by by)
{
	*t = (struct tally){ .by = by, .groups = json_object() };
}

static void name_of(enum tally_by by, const json_t *e, char *ret, size_t size)
{
	switch (by) {
	case TALLY_STATE:
		snprintf(ret, size, "%s/%s", js_str(e, "tcp.client_state"),
			 js_str(e, "tcp.server_state"));
		break;
	case TALLY_SERVER:
		snprintf(ret, size, strchr(js_str(e, "dest_ip"), ':') ? "[%s]:%u" : "%s:%u",
			 js_str(e, "dest_ip"), (unsigned)js_u64(e, "dest_port"));
		break;
	case TALLY_CLIENT:
		snprintf(ret, size, "%s", js_str(e, "src_ip"));
		break;
	case TALLY_PORT:
		snprintf(ret, size, "%u", (unsigned)js_u64(e, "dest_port"));
		break;
	case TALLY_INTERFACE:
		snprintf(ret, size, "%s", js_str(e, "in_iface"));
		break;
	case TALLY_NO:
		snprintf(ret, size, "all");
		break;
	}
}

static void add(json_t *group, const char *name, uint64_t n)
{
	json_object_set_new(group, name, json_integer((json_int_t)(js_u64(group, name) + n)));
}

void tally_add(struct tally *t, const json_t *e)
{
	char name[CLI_TEXT_MAX];
	json_t *group;

	name_of(t->by, e, name, sizeof name);
	group = json_object_get(t->groups, name);
	if (!group) {
		group = json_object();
		json_object_set_new(t->groups, name, group);
	}
	add(group, "connections", 1);
	add(group, "payload_toserver", js_u64(e, "flow.payload_toserver"));
	add(group, "payload_toclient", js_u64(e, "flow.payload_toclient"));
	add(group, "retrans_toserver", js_u64(e, "flow.retrans_toserver"));
	add(group, "retrans_toclient", js_u64(e, "flow.retrans_toclient"));
}

struct row {
	const char *name;
	const json_t *group;
};

static int larger_first(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	uint64_t nx = js_u64(x->group, "connections"), ny = js_u64(y->group, "connections");

	return nx != ny ? (nx < ny ? 1 : -1) : strcmp(x->name, y->name);
}

static void print_json(struct out *out, const struct row *r)
{
	json_t *row = json_deep_copy(r->group);

	json_object_set_new(row, "name", json_string(r->name));
	out_json(out, row);
	json_decref(row);
}

static void print_row(struct out *out, const struct row *r)
{
	out_cell(out, OUT_PLAIN, 46, r->name);
	out_cell(out, OUT_PLAIN, -12, human_count(js_u64(r->group, "connections")).s);
	out_cell(out, OUT_PLAIN, -10, human_octets(js_u64(r->group, "payload_toserver")).s);
	out_cell(out, OUT_PLAIN, -10, human_octets(js_u64(r->group, "payload_toclient")).s);
	out_cell(out, OUT_PLAIN, -10, human_count(js_u64(r->group, "retrans_toserver")).s);
	out_cell(out, OUT_PLAIN, -10, human_count(js_u64(r->group, "retrans_toclient")).s);
	out_end(out);
}

int tally_print(const struct tally *t, struct out *out, bool json)
{
	size_t n = json_object_size(t->groups), i = 0;
	struct row *rows = calloc(n + 1, sizeof *rows);
	const char *name;
	json_t *group;

	if (!rows)
		return cli_error(CLI_FAILED, "out of memory");
	json_object_foreach(t->groups, name, group) rows[i++] = (struct row){ name, group };
	qsort(rows, n, sizeof *rows, larger_first);
	if (n && !json) {
		out_cell(out, OUT_BOLD, 46, "");
		out_styled(out, OUT_BOLD,
			   " CONNECTIONS      SENT  RECEIVED   RETRANS TO: SERVER, CLIENT");
		out_end(out);
	}
	for (i = 0; i < n; i++)
		if (json)
			print_json(out, &rows[i]);
		else
			print_row(out, &rows[i]);
	free(rows);
	return CLI_FOUND;
}

void tally_done(struct tally *t)
{
	json_decref(t->groups);
}
