#include "synfind/varlink.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

enum { GROW = 4 << 10 };

/* ---- octets that came ------------------------------------------------------------------------ */

char *varlink_input_space(struct varlink_input *in, size_t *ret_n)
{
	if (in->at) { /* what was answered makes space */
		in->n -= in->at;
		memmove(in->octets, in->octets + in->at, in->n);
		in->at = 0;
	}
	if (in->n == in->size) {
		size_t size = in->size ? 2 * in->size : GROW;
		char *grown = size <= VARLINK_CALL_MAX ? realloc(in->octets, size) : NULL;

		if (!grown)
			return NULL;
		in->octets = grown;
		in->size = size;
	}
	*ret_n = in->size - in->n;
	return in->octets + in->n;
}

static void forget_scan(struct varlink_input *in)
{
	in->scanned = in->depth = 0;
	in->begun = in->in_string = in->escaped = false;
}

void varlink_input_drop(struct varlink_input *in, size_t n)
{
	in->at += n + 1;
	if (in->at == in->n)
		varlink_input_done(in); /* an idle connection costs no memory */
	forget_scan(in);
}

/* Follows one octet of a call.  True: the call ends before it. */
static bool scan_octet(struct varlink_input *in, char c)
{
	if (c == '\0')
		return true;
	if (in->in_string) {
		in->in_string = in->escaped || c != '"';
		in->escaped = !in->escaped && c == '\\';
		return c == '\n'; /* an error, so this was meant as the end */
	}
	if (c == '\n')
		return !in->depth;
	in->begun |= c != ' ' && c != '\t' && c != '\r';
	in->in_string = c == '"';
	if (c == '{' || c == '[')
		in->depth++;
	else if ((c == '}' || c == ']') && in->depth)
		in->depth--;
	return false;
}

ssize_t varlink_input_call(struct varlink_input *in, const char **ret, char *ret_end)
{
	while (in->at + in->scanned < in->n) {
		const char *at = in->octets + in->at + in->scanned;

		if (!scan_octet(in, *at)) {
			in->scanned++;
		} else if (!in->begun) {
			varlink_input_drop(in, in->scanned);
		} else {
			/* A newline before the NUL belongs to the call. */
			if (*at == '\n' && in->at + in->scanned + 1 < in->n && !at[1]) {
				in->scanned++;
				at++;
			}
			*ret = in->octets + in->at;
			*ret_end = *at;
			return (ssize_t)in->scanned;
		}
	}
	return -EAGAIN;
}

void varlink_input_done(struct varlink_input *in)
{
	free(in->octets);
	*in = (struct varlink_input){ 0 };
}

/* ---- calls ----------------------------------------------------------------------------------- */

static int refuse(char *reterr, const char *why)
{
	snprintf(reterr, VARLINK_MESSAGE_MAX, "%s", why);
	return -EINVAL;
}

/* A member that may be absent or a boolean.  False: it is something else. */
static bool take_flag(const json_t *object, const char *name, bool *ret)
{
	const json_t *value = json_object_get(object, name);

	*ret = json_is_true(value);
	return !value || json_is_boolean(value);
}

int varlink_call_parse(const char *octets, size_t n, struct varlink_call *ret,
		       char reterr[static VARLINK_MESSAGE_MAX])
{
	json_error_t error;
	struct varlink_call call = { .object = json_loadb(octets, n, JSON_REJECT_DUPLICATES,
							  &error) };
	bool upgrade;
	int r = 0;

	if (!call.object) {
		snprintf(reterr, VARLINK_MESSAGE_MAX, "octet %d: %s", error.position, error.text);
		json_t *text = json_string(reterr); /* it quotes octets of the call */

		if (!text)
			snprintf(reterr, VARLINK_MESSAGE_MAX, "octet %d: not JSON", error.position);
		json_decref(text);
		return -EINVAL;
	}
	call.method = json_string_value(json_object_get(call.object, "method"));
	call.parameters = json_object_get(call.object, "parameters");
	if (json_is_null(call.parameters))
		call.parameters = NULL;
	if (!json_is_object(call.object))
		r = refuse(reterr, "a call is an object");
	else if (!call.method)
		r = refuse(reterr, "\"method\" is not a string");
	else if (call.parameters && !json_is_object(call.parameters))
		r = refuse(reterr, "\"parameters\" is not an object");
	else if (!take_flag(call.object, "more", &call.more) ||
		 !take_flag(call.object, "oneway", &call.oneway) ||
		 !take_flag(call.object, "upgrade", &upgrade))
		r = refuse(reterr, "\"more\", \"oneway\" or \"upgrade\" is not a boolean");
	else if (upgrade)
		r = refuse(reterr, "\"upgrade\" is not supported");
	else if (call.more && call.oneway)
		r = refuse(reterr, "\"more\" and \"oneway\" exclude each other");
	if (r < 0)
		varlink_call_done(&call);
	else
		*ret = call;
	return r;
}

void varlink_call_done(struct varlink_call *call)
{
	json_decref(call->object);
	*call = (struct varlink_call){ 0 };
}

/* ---- replies --------------------------------------------------------------------------------- */

/* Space for @n octets more. */
static int output_reserve(struct varlink_output *out, size_t n)
{
	size_t size = out->n + n;
	char *grown;

	if (size - out->at > VARLINK_PENDING_MAX)
		return -ENOBUFS;
	if (size <= out->size)
		return 0;
	grown = realloc(out->octets, size);
	if (!grown)
		return -ENOMEM;
	out->octets = grown;
	out->size = size;
	return 0;
}

/* Space is reserved. */
static void output_end(struct varlink_output *out, char end)
{
	if (end == VARLINK_END_ANY)
		out->octets[out->n++] = '\n';
	out->octets[out->n++] = end == VARLINK_END_ANY ? '\0' : end;
}

int varlink_output_reply(struct varlink_output *out, const char *error, json_t *parameters,
			 bool continues, char end)
{
	json_t *reply = json_object();
	size_t n;
	int r = 0;

	if (error)
		r |= json_object_set_new(reply, "error", json_string(error));
	r |= json_object_set_new(reply, "parameters", parameters);
	if (continues)
		r |= json_object_set_new(reply, "continues", json_true());
	n = r ? 0 : json_dumpb(reply, NULL, 0, JSON_COMPACT);
	r = n ? output_reserve(out, n + 2) : -ENOMEM;
	if (r >= 0) {
		json_dumpb(reply, out->octets + out->n, n, JSON_COMPACT);
		out->n += n;
		output_end(out, end);
	}
	json_decref(reply);
	return r;
}

int varlink_output_text(struct varlink_output *out, const char *parameters, size_t n,
			bool continues, char end)
{
	const char *tail = continues ? ",\"continues\":true}" : "}";
	int r = output_reserve(out, n + 64);

	if (r < 0)
		return r;
	out->n += (size_t)sprintf(out->octets + out->n, "{\"parameters\":");
	memcpy(out->octets + out->n, parameters, n);
	out->n += n;
	out->n += (size_t)sprintf(out->octets + out->n, "%s", tail);
	output_end(out, end);
	return 0;
}

void varlink_output_sent(struct varlink_output *out, size_t n)
{
	out->at += n;
	if (out->at == out->n)
		varlink_output_done(out);
}

void varlink_output_done(struct varlink_output *out)
{
	free(out->octets);
	*out = (struct varlink_output){ 0 };
}
