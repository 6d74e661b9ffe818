#include "synfinctl/unit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include "base/cc.h"

#define SYSTEMD "org.freedesktop.systemd1"

static const uint64_t patience_us = 2000000;

static void bus_close(sd_bus **bus)
{
	sd_bus_flush_close_unref(*bus);
}

static void string_free(char **text)
{
	free(*text);
}

/* The bus and the object of the unit.  False: systemd cannot be asked. */
static bool unit_find(const char *unit, sd_bus **ret_bus, char **ret_path)
{
	if (sd_bus_open_system(ret_bus) < 0 ||
	    sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, ret_path) < 0)
		return false;
	sd_bus_set_method_call_timeout(*ret_bus, patience_us);
	return true;
}

struct unit_state unit_state(const char *unit)
{
	AUTO(bus_close) sd_bus *bus = NULL;
	AUTO(string_free) char *path = NULL, *load = NULL, *active = NULL;
	struct unit_state state = { "" };

	if (unit_find(unit, &bus, &path) &&
	    sd_bus_get_property_string(bus, SYSTEMD, path, SYSTEMD ".Unit", "LoadState", NULL,
				       &load) >= 0 &&
	    sd_bus_get_property_string(bus, SYSTEMD, path, SYSTEMD ".Unit", "ActiveState", NULL,
				       &active) >= 0)
		snprintf(state.s, sizeof state.s, "%s",
			 !strcmp(load, "not-found") ? "absent" : active);
	return state;
}

uint32_t unit_main_pid(const char *unit)
{
	AUTO(bus_close) sd_bus *bus = NULL;
	AUTO(string_free) char *path = NULL;
	uint32_t pid = 0;

	if (unit_find(unit, &bus, &path))
		sd_bus_get_property_trivial(bus, SYSTEMD, path, SYSTEMD ".Service", "MainPID", NULL,
					    'u', &pid);
	return pid;
}
