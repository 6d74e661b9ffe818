/* js.h - members of an event line by the paths that docs/events.md uses: "tcp.reason".
 *
 * A member that is absent, or has another type, is empty or 0: lines may come from a newer daemon,
 * or be hostile. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The object in a line, to be freed; NULL: it is not JSON, or not an object. */
json_t *js_parse(const char *line, size_t n);

/* The member, borrowed, or NULL. */
const json_t *js_at(const json_t *line, const char *path);

/* A string, borrowed; "" if the member is not a string. */
const char *js_str(const json_t *line, const char *path);

/* A whole number; 0 if the member is not one, or is negative. */
uint64_t js_u64(const json_t *line, const char *path);

/* True only if it is true. */
bool js_true(const json_t *line, const char *path);

/* Is it that string? */
bool js_is(const json_t *line, const char *path, const char *value);

/* The member as text: strings as they are, all others as JSON; "-" if absent.  Cut to @size. */
void js_text(const json_t *line, const char *path, char *ret, size_t size);
