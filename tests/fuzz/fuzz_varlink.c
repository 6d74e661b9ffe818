/* Any octets as calls of one client, whole and in pieces: the calls are the same.  What is refused
 * says why, in UTF-8.  Each reply is one JSON object and one end, whatever text it has. */
#include <stdint.h>
#include <sys/types.h>
#include "../../daemon/synfind/varlink.h"
/* Short inputs reach it: libFuzzer makes them as long as the longest seed. */
#define VARLINK_CALL_MAX (8 << 10)
#include "../../daemon/synfind/varlink.c"

static void must(int truth)
{
	if (!truth)
		abort();
}

struct seen { /* what one way of reading them came to */
	unsigned calls, refused;
	uint64_t hash; /* FNV-1a of all calls and ends */
	bool too_long;
};

static void note(struct seen *seen, const char *octets, size_t n, char end)
{
	for (size_t i = 0; i <= n; i++)
		seen->hash = (seen->hash ^ (uint8_t)(i < n ? octets[i] : end)) * 0x100000001b3u;
}

/* The octets of the newest reply, from @from on. */
static void check_reply(const struct varlink_output *out, size_t from, char end)
{
	json_error_t error;
	json_t *reply;
	size_t n = out->n - from - 1;

	must(out->octets[out->n - 1] == end);
	must(!memchr(out->octets + from, '\0', n) && !memchr(out->octets + from, '\n', n));
	reply = json_loadb(out->octets + from, n, JSON_REJECT_DUPLICATES, &error);
	must(json_is_object(reply) && json_is_object(json_object_get(reply, "parameters")));
	json_decref(reply);
}

static void answer(struct varlink_output *out, const char *error, json_t *parameters, char end)
{
	size_t from = out->n;
	int r = varlink_output_reply(out, error, parameters, false, end);

	must(r == 0 || r == -ENOBUFS);
	if (r == 0)
		check_reply(out, from, end);
	if (r < 0 || out->n - out->at > 1000) /* it reads at last */
		varlink_output_sent(out, out->n - out->at);
}

static void one_call(const char *octets, size_t n, char end, struct varlink_output *out,
		     struct seen *seen)
{
	char why[VARLINK_MESSAGE_MAX] = "";
	struct varlink_call call;
	int r = varlink_call_parse(octets, n, &call, why);

	must(n && n < VARLINK_CALL_MAX);
	must(end == '\0' || end == '\n');
	must(!memchr(octets, '\0', n));
	note(seen, octets, n, end);
	seen->calls++;
	if (r < 0) {
		json_t *text = json_string(why);

		must(r == -EINVAL && *why && text);
		seen->refused++;
		answer(out, "a.b.C", json_pack("{s:o}", "message", text), end);
		return;
	}
	must(call.method && json_is_object(call.object) && !(call.more && call.oneway));
	must(!call.parameters || json_is_object(call.parameters));
	answer(out, NULL, json_pack("{s:s,s:O*}", "method", call.method, "was", call.parameters),
	       end);
	if (call.parameters) {
		char *text = json_dumps(call.parameters, JSON_COMPACT);
		size_t from = out->n;

		must(text != NULL);
		if (varlink_output_text(out, text, strlen(text), call.more, end) == 0)
			check_reply(out, from, end);
		free(text);
	}
	varlink_call_done(&call);
}

/* Reads @n octets, at most @piece at a time. */
static struct seen read_all(const uint8_t *octets, size_t n, size_t piece)
{
	struct varlink_input in = { 0 };
	struct varlink_output out = { 0 };
	struct seen seen = { .hash = 0xcbf29ce484222325u };

	while (n && !seen.too_long) {
		size_t space, take;
		char *at = varlink_input_space(&in, &space), end;
		const char *call;
		ssize_t length;

		seen.too_long = !at;
		if (!at)
			break;
		must(space > 0);
		take = space < piece ? space : piece;
		take = take < n ? take : n;
		memcpy(at, octets, take);
		varlink_input_add(&in, take);
		octets += take;
		n -= take;
		while ((length = varlink_input_call(&in, &call, &end)) >= 0) {
			one_call(call, (size_t)length, end, &out, &seen);
			varlink_input_drop(&in, (size_t)length);
		}
		must(in.size <= VARLINK_CALL_MAX && out.n - out.at <= VARLINK_PENDING_MAX);
	}
	varlink_input_done(&in);
	varlink_output_done(&out);
	return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
	struct seen whole = read_all(octets, n, n), pieces;
	bool pair = false; /* a newline and a NUL, which are one end if they come together */

	for (size_t i = 1; i < n; i++)
		pair |= octets[i - 1] == '\n' && !octets[i];
	pieces = read_all(octets, n, 1 + (n ? octets[0] % 7 : 0) * (n > 4096 ? 500 : 1));
	must(pair || (whole.calls == pieces.calls && whole.refused == pieces.refused &&
		      whole.hash == pieces.hash && whole.too_long == pieces.too_long));
	return 0;
}
