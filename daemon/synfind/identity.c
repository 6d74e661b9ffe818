#include "synfind/identity.h"
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>
#include <unistd.h>
#include "format/json.h"

void identity_init(struct identity *ret, bool daemon)
{
	const char *env = getenv("SYNFIND_BOOT_ID");
	sd_id128_t id;

	memset(ret, 0, sizeof *ret);
	gethostname(ret->host, sizeof ret->host - 1);
	/* If /proc is hidden, the unit passes the boot id (systemd/synfind.service.in). */
	if (sd_id128_get_boot(&id) >= 0 || (env && sd_id128_from_string(env, &id) >= 0))
		sd_id128_to_string(id, ret->boot_id);
	if (daemon && sd_id128_randomize(&id) >= 0)
		sd_id128_to_string(id, ret->run_id);
}

struct json_hello identity_hello(const struct identity *id, const char *const *ifaces, unsigned n)
{
	return (struct json_hello){ .version = SYNFIND_VERSION,
				    .host = id->host,
				    .boot_id = id->boot_id,
				    .run_id = id->run_id,
				    .policy = "drop_oldest",
				    .ifaces = ifaces,
				    .nifaces = n };
}
