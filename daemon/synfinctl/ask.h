/* ask.h - questions to control.sock: Varlink calls of io.synfind.Control (synfind-control(7)). */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "synfinctl/dial.h"

/* Calls @method, with "io.synfind.Control." before it, and gives the parameters of each reply to
 * @reply, which returns true to get the next one; with @more there can be several.  @parameters is
 * consumed; NULL: none.
 * Returns an exit status: CLI_FOUND; CLI_NOTHING for NoSuchConnection; another one after an error
 * line.  The connection is opened and closed. */
int ask(const struct dial_options *o, const char *method, json_t *parameters, bool more,
	bool (*reply)(const json_t *parameters, void *arg), void *arg);

/* One reply: *@ret is the caller's. */
int ask_one(const struct dial_options *o, const char *method, json_t *parameters, json_t **ret);
