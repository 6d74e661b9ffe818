/* offline.h - `synfind --read FILE`: the whole pipeline over a file, in one thread. */
#pragma once

struct options;

/* Tells the events of options->read_file on stdout.  Returns the exit status: 0, or 1 after one
 * sentence on stderr that names the file and the octet where it ends to make sense. */
int offline_run(const struct options *o);
