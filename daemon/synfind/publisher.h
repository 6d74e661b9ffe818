/* publisher.h - the main thread's side: drains the decoders' rings, encodes each event once into
 * the line log, and serves the subscribers on the socket and standard output.
 *
 * One sd-event loop, one thread.  The publisher owns the line log, the sequence numbers and the
 * subscribers.  Of the decoders it touches only the consuming end of their rings.
 *
 * With a store all of this continues in the next process (stream_state.h, docs/restart.md). */
#pragma once
#include <stdint.h>
#include <systemd/sd-event.h>

struct publisher;
struct options;
struct decoder;
struct fdstore;

/* Resumes the stream of @fdstore (borrowed) with its subscribers, or begins one.  Opens the socket
 * that the options name.  Logs what fails; 0 or -errno. */
int publisher_init(struct publisher *p, const struct options *o, sd_event *loop,
		   struct fdstore *fdstore);

/* Call it when all rings are added.  Publishes `restart` if the stream is resumed. */
void publisher_start(struct publisher *p);

/* Frees everything in this process.  With a store the stream and its subscribers continue in the
 * next one; the socket's path stays.  A zeroed one is fine. */
void publisher_destroy(struct publisher *p);

/* Adds the event ring of @d, and resumes it if the stream knows its generation.  @id: of the
 * interface, below STREAM_IFACES.  @iface is borrowed until publisher_remove(). */
int publisher_add(struct publisher *p, struct decoder *d, unsigned id, const char *iface);

/* Drains the ring of @d and removes it. */
void publisher_remove(struct publisher *p, struct decoder *d);

/* Publishes an `iface` event, if wanted. */
void publisher_iface(struct publisher *p, const char *iface, const char *state);

/* Publishes a `stats` event (several if there are many decoders), if wanted. */
void publisher_stats(struct publisher *p, uint64_t interval_ns);

/* Drains all rings up to a budget; the loop drains the rest later. */
void publisher_drain(struct publisher *p);

/* Ends the stream: waits up to @wait_ns for subscribers to read the rest, then disconnects
 * them. */
void publisher_end(struct publisher *p, uint64_t wait_ns);

/* Drains all rings for the last time before the next process resumes the stream.  The decoders have
 * stopped. */
void publisher_pause(struct publisher *p);
