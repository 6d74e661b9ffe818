/* watchdog.h - what the service manager and the log are told about how it goes (sd_notify(3)).
 *
 * STATUS: rates, connections, drops, every few seconds.  WATCHDOG, if it is wanted: fed from the
 * loop, and only if each decoder's heartbeat moved since the last time; so it stops when either
 * stands still.  The log: what the kernel had to drop.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct publisher;

struct watchdog {
	struct publisher *publisher; /* borrowed */
	sd_event_source *status_timer, *feed_watchdog;
	uint64_t watchdog_usec;		   /* 0: none */
	uint64_t at_usec, packets, events; /* at the last look */
	bool stalled;			   /* and that was said */
};

/* For decoders, before they start: the longest wait without a beat in ms; 0: any. */
int watchdog_beat_ms(void);

/* Begins to look; 0 or -errno, logged. */
int watchdog_start(struct watchdog *h, sd_event *loop, struct publisher *p);

/* A zeroed one is fine. */
void watchdog_stop(struct watchdog *h);
