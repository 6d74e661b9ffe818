/* unit.h - asks systemd about a unit. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct unit_state {
	char s[32];
};

/* Its ActiveState: "active", "inactive", "failed", ...; "absent" if there is no such unit; "" if
 * systemd cannot be asked. */
struct unit_state unit_state(const char *unit);

/* Its main process; 0: none, or unknown. */
uint32_t unit_main_pid(const char *unit);
