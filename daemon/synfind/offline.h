/* offline.h - `synfind --read FILE`: the whole pipeline over a file, in one thread. */
#pragma once

struct options;

/* Writes the events of options->read_files, read one after the other, to standard output.  Returns
 * the exit status: 0; or 1 if a file is missing or broken: a message on standard error names it and
 * the octet, and the next file is read. */
int offline_run(const struct options *o);
