/* watchdog.h - reports the daemon's condition to the service manager and the log (sd_notify(3)).
 *
 * STATUS: rates, connections and drops, every few seconds.  WATCHDOG, if enabled: fed from the
 * loop, and only if every decoder's heartbeat has moved since the last time.  So it runs out if the
 * loop or a decoder hangs.  The log gets the kernel's drops.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct watchdog {
	struct publisher *publisher;	   /* borrowed */
	uint64_t watchdog_usec;		   /* 0: disabled */
	uint64_t at_usec, packets, events; /* at the last status */
	bool stalled;			   /* and that was logged */
};

/* The longest wait of a decoder without a heartbeat, ms; 0: unlimited. */
int watchdog_beat_ms(void);

/* Starts the timers, which end with @loop; 0 or -errno, logged. */
int watchdog_start(struct watchdog *h, sd_event *loop, struct publisher *p);
