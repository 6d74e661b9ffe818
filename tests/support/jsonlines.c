/* jsonlines: parses each line of stdin with jansson, the strict way.  Says the number of lines, or
 * the first one that is no JSON object of its own. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
	char *line = NULL;
	size_t room = 0;
	unsigned long lines = 0;
	ssize_t n;

	while ((n = getline(&line, &room, stdin)) > 0) {
		json_error_t e;
		json_t *j = NULL;

		lines++;
		if (line[n - 1] == '\n')
			j = json_loadb(line, (size_t)n - 1, JSON_REJECT_DUPLICATES, &e);
		else
			snprintf(e.text, sizeof e.text, "no newline at its end");
		if (!json_is_object(j)) {
			printf("line %lu: %s: %.200s\n", lines, j ? "not an object" : e.text, line);
			return EXIT_FAILURE;
		}
		json_decref(j);
	}
	free(line);
	printf("%lu\n", lines);
	return EXIT_SUCCESS;
}
