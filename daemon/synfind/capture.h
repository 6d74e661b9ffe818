/* capture.h - the captured interfaces, with one decoder per packet ring: what happens when they
 * appear, disappear and change.  Main thread only. */
#pragma once
#include "synfind/capture_state.h"

/* Resumes the stored interfaces and asks the opener for the rings of all others that the options
 * name.  An interface that the options name in full must exist.  Logs what fails; 0 or -errno.  If
 * the opener dies later, the captured interfaces are not affected. */
int capture_start(struct capture *c, const struct options *o, sd_event *loop,
		  struct publisher *publisher, struct opener *opener, struct fdstore *fdstore);

/* Starts the decoders.  Until then the rings keep the frames.  Logs what fails; 0 or -errno. */
int capture_run(struct capture *c);

/* The options have changed: configures the decoders and has the opener read its options again. */
void capture_reload(struct capture *c);

/* Has every decoder close all connections.  The loop ends when the last one has. */
void capture_stop(struct capture *c);

/* Stops every decoder between two batches without closing anything, for the next process.  Returns
 * when they have stopped. */
void capture_pause(struct capture *c);

/* A zeroed one is fine. */
void capture_destroy(struct capture *c);
