/* json_at.h - finds a member of a parsed line by its path. */
#pragma once
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Member at @path, "tcp.options.mss". */
static inline const json_t *at(const json_t *j, const char *path)
{
	char key[64];

	while (j && *path) {
		size_t n = strcspn(path, ".");

		snprintf(key, sizeof key, "%.*s", (int)n, path);
		j = json_object_get(j, key);
		path += n + (path[n] == '.');
	}
	return j;
}
