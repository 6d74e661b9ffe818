/* check.h - `synfind --check-config`: what the options mean on this machine. */
#pragma once

struct options;

/* Prints which interfaces exist and how much memory the options take; with options->quiet nothing.
 * Each interface that is named in full and does not exist is an error, as at the start, unless they
 * are another process's to open (options->opener).  0 or -errno; what is wrong was logged. */
int check_config(const struct options *o);
