#include "synfind/watchdog.h"
#include <systemd/sd-daemon.h>
#include <time.h>
#include "common/crash.h"
#include "common/log.h"
#include "common/notify.h"
#include "synfind/decoder.h"
#include "synfind/decoder_state.h"
#include "synfind/publisher_state.h"

enum { STATUS_USEC = 5000000 };

/* Feeds within the time that systemd allows, and heartbeats of a decoder between two feeds. */
enum { FEEDS = 2, BEATS = 2 };

int watchdog_beat_ms(void)
{
	uint64_t usec;

	if (sd_watchdog_enabled(0, &usec) <= 0)
		return 0;
	usec /= FEEDS * BEATS * 1000;
	return usec ? (int)usec : 1;
}

/* ---- status --------------------------------------------------------------------------------- */

/* Logs the frames that the kernel dropped since the last status. */
static void log_drops(struct input_ring *input, uint64_t total)
{
	uint64_t n = total - input->drops_reported;

	if (!n)
		return;
	input->drops_reported = total;
	log_event(LOG_LEVEL_WARN, LOG_ID_CAPTURE_LOSS,
		  LOG_FIELDS({ "SYNFIND_INTERFACE", input->iface },
			     { "SYNFIND_DROPS", log_number(n).s },
			     { "SYNFIND_DROPS_TOTAL", log_number(total).s }),
		  "The kernel dropped %llu frames on %s: the ring was full", (unsigned long long)n,
		  input->iface);
}

static unsigned long long rate(uint64_t now, uint64_t before, uint64_t usec)
{
	return now > before && usec ? (now - before) * 1000000 / usec : 0;
}

static void note_rates(struct input_ring *input, uint64_t took)
{
	uint64_t packets = counter_get(&input->decoder->count->packets);
	uint64_t events = counter_get(&input->decoder->count->events);

	input->packets_per_s = rate(packets, input->packets, took);
	input->events_per_s = rate(events, input->events, took);
	input->packets = packets;
	input->events = events;
	input->rates_known = input->looked; /* not of a part of that time */
	input->looked = true;
}

static int on_status(sd_event_source *s, uint64_t usec, void *arg)
{
	struct watchdog *h = arg;
	uint64_t packets = 0, events = 0, drops = 0, syn_entries = 0, full_entries = 0, took;
	unsigned ifaces = 0;

	for (struct input_ring *input = h->publisher->rings; input; input = input->next, ifaces++) {
		const struct decoder_counters *count = input->decoder->count;
		uint64_t dropped = counter_get(&count->drops);

		log_drops(input, dropped);
		note_rates(input, usec - h->at_usec);
		packets += counter_get(&count->packets);
		events += counter_get(&count->events);
		drops += dropped;
		syn_entries += counter_get(&count->tracker.syn_entries);
		full_entries += counter_get(&count->tracker.full_entries);
	}
	took = usec - h->at_usec;
	notify_send("STATUS=%llu packets/s, %llu events/s; %llu connections, %llu half-open; "
		    "%u interfaces, %u subscribers; dropped %llu, lost to subscribers %llu",
		    rate(packets, h->packets, took), rate(events, h->events, took),
		    (unsigned long long)full_entries, (unsigned long long)syn_entries, ifaces,
		    h->publisher->subscribers.connected, (unsigned long long)drops,
		    (unsigned long long)h->publisher->stream.state->lost_events);
	h->at_usec = usec;
	h->packets = packets;
	h->events = events;
	sd_event_source_set_time(s, usec + STATUS_USEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

/* ---- watchdog ------------------------------------------------------------------------------- */

static int on_feed_watchdog(sd_event_source *s, uint64_t usec, void *arg)
{
	struct watchdog *h = arg;
	const struct input_ring *stalled = NULL;

	for (struct input_ring *input = h->publisher->rings; input; input = input->next) {
		uint64_t beats = counter_get(&input->decoder->count->beats);

		if (beats == input->beats && !atomic_load(&input->decoder->ended))
			stalled = input;
		input->beats = beats;
	}
	if (!stalled) {
		notify_send("WATCHDOG=1");
		crash_alive(h->watchdog_usec * 1000 / 4 * 3);
	} else if (!h->stalled) {
		log_event(LOG_LEVEL_ERR, LOG_ID_STALLED,
			  LOG_FIELDS({ "SYNFIND_INTERFACE", stalled->iface }),
			  "The decoder of %s has stalled: not feeding the watchdog",
			  stalled->iface);
	}
	h->stalled = stalled;
	sd_event_source_set_time(s, usec + h->watchdog_usec / FEEDS);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

/* ---- life ----------------------------------------------------------------------------------- */

int watchdog_start(struct watchdog *h, sd_event *loop, struct publisher *p)
{
	int r;

	*h = (struct watchdog){ .publisher = p };
	if (sd_watchdog_enabled(0, &h->watchdog_usec) <= 0)
		h->watchdog_usec = 0;
	r = sd_event_now(loop, CLOCK_MONOTONIC, &h->at_usec);
	if (r >= 0)
		r = sd_event_add_time_relative(loop, NULL, CLOCK_MONOTONIC, STATUS_USEC, 0,
					       on_status, h);
	if (r >= 0 && h->watchdog_usec)
		r = sd_event_add_time_relative(loop, NULL, CLOCK_MONOTONIC,
					       h->watchdog_usec / FEEDS, 0, on_feed_watchdog, h);
	return r < 0 ? log_errno(r, "Cannot start the watchdog") : 0;
}
