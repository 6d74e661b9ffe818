#include "synfinctl/js.h"
#include <stdio.h>
#include <string.h>

json_t *js_parse(const char *line, size_t n)
{
	json_t *object = json_loadb(line, n, 0, NULL);

	if (json_is_object(object))
		return object;
	json_decref(object);
	return NULL;
}

const json_t *js_at(const json_t *line, const char *path)
{
	while (line && *path) {
		size_t n = strcspn(path, ".");

		line = json_object_getn(line, path, n);
		path += n + (path[n] == '.');
	}
	return line;
}

const char *js_str(const json_t *line, const char *path)
{
	const char *s = json_string_value(js_at(line, path));

	return s ? s : "";
}

uint64_t js_u64(const json_t *line, const char *path)
{
	json_int_t v = json_integer_value(js_at(line, path));

	return v > 0 ? (uint64_t)v : 0;
}

bool js_true(const json_t *line, const char *path)
{
	return json_is_true(js_at(line, path));
}

bool js_is(const json_t *line, const char *path, const char *value)
{
	return !strcmp(js_str(line, path), value);
}

void js_text(const json_t *line, const char *path, char *ret, size_t size)
{
	const json_t *v = js_at(line, path);
	size_t n;

	if (!v) {
		snprintf(ret, size, "-");
	} else if (json_is_string(v)) {
		snprintf(ret, size, "%s", json_string_value(v));
	} else {
		n = json_dumpb(v, ret, size - 1, JSON_COMPACT | JSON_ENCODE_ANY);
		ret[n < size ? n : size - 1] = 0;
	}
}
