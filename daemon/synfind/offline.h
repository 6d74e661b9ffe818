/* offline.h - `synfind --read FILE`: the whole pipeline over a file, in one thread. */
#pragma once

struct options;

/* Writes the events of options->read_file to standard output.  Returns the exit status: 0; or 1
 * after one message on standard error, which names the file and, if it is broken, the octet. */
int offline_run(const struct options *o);
