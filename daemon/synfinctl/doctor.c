/* synfinctl doctor: what is wrong on this host, and what to change. */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "synfinctl/ask.h"
#include "synfinctl/commands.h"
#include "synfinctl/human.h"
#include "synfinctl/js.h"
#include "synfinctl/out.h"
#include "synfinctl/unit.h"

struct doctor_options {
	struct out_options out;
	struct dial_options dial;
};

static const struct cli_group doctor_groups[] = {
	OUT_GROUP(struct doctor_options, out),
	DIAL_GROUP(struct doctor_options, dial),
	{ 0 },
};

enum level { LEVEL_OK, LEVEL_NOTE, LEVEL_WARN, LEVEL_FAIL };

enum { SENTENCE_MAX = 512 };

struct doctor {
	const struct doctor_options *o;
	struct out out;
	json_t *status, *config; /* owned; NULL: there is no answer */
	unsigned wrong;		 /* findings of LEVEL_WARN and above */
};

static void finding_json(struct doctor *d, const char *level, const char *what, const char *fix)
{
	json_t *object = json_pack("{s:s, s:s, s:s*}", "level", level, "what", what, "fix", fix);

	out_json(&d->out, object);
	json_decref(object);
}

/* @fix: what to change; NULL: nothing. */
static void finding(struct doctor *d, enum level level, const char *fix, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static void finding(struct doctor *d, enum level level, const char *fix, const char *fmt, ...)
{
	static const struct {
		const char *name;
		enum out_style style;
	} levels[] = {
		{ "ok", OUT_GOOD }, { "note", OUT_DIM }, { "warn", OUT_WARN }, { "FAIL", OUT_BAD }
	};
	char what[SENTENCE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	d->wrong += level >= LEVEL_WARN;
	if (d->o->out.json) {
		finding_json(d, levels[level].name, what, fix);
		return;
	}
	out_cell(&d->out, levels[level].style, 6, levels[level].name);
	out_text(&d->out, what);
	out_end(&d->out);
	if (fix) {
		out_text(&d->out, "      -> ");
		out_text(&d->out, fix);
		out_end(&d->out);
	}
}

/* The value of an option in force; "" if it is not known. */
static const char *option(const struct doctor *d, const char *name)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)js_at(d->config, "options"), i,
			   row) if (js_is(row, "name", name)) return js_str(row, "value");
	return "";
}

/* ---- the service and its sockets ---- */

static void check_unit(struct doctor *d, const char *unit, const char *fix)
{
	struct unit_state state = unit_state(unit);

	if (!strcmp(state.s, "active"))
		finding(d, LEVEL_OK, NULL, "%s is active", unit);
	else if (!strcmp(state.s, "absent"))
		finding(d, LEVEL_WARN, "install the package synfind, or: make install",
			"%s is not installed", unit);
	else if (*state.s)
		finding(d, LEVEL_FAIL, fix, "%s is %s", unit, state.s);
}

/* A daemon that was started by hand has a socket elsewhere, and no unit. */
static void check_service(struct doctor *d)
{
	if (d->o->dial.socket)
		return;
	if (!*unit_state("synfind.service").s) {
		finding(d, LEVEL_NOTE, NULL, "systemd cannot be asked about synfind.service");
		return;
	}
	check_unit(d, "synfind.service",
		   "systemctl start synfind; if it fails: journalctl -u synfind -n 20");
	check_unit(d, "synfind.socket", "systemctl start synfind.socket");
	check_unit(d, "synfind-opener.socket", "systemctl start synfind-opener.socket");
}

static bool check_socket(struct doctor *d, enum dial_which which)
{
	char path[CLI_TEXT_MAX], why[2 * CLI_TEXT_MAX];
	int fd = dial(&d->o->dial, which);

	dial_path(&d->o->dial, which, path);
	if (fd < 0) {
		dial_explain(&d->o->dial, which, -fd, why);
		finding(d, LEVEL_FAIL, NULL, "%s", why);
		return false;
	}
	close(fd);
	finding(d, LEVEL_OK, NULL, "%s answers", path);
	return true;
}

/* ---- privileges ---- */

/* The effective capabilities of a process; false: it cannot be seen. */
static bool capabilities_of(uint64_t pid, uint64_t *ret)
{
	char path[64], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%" PRIu64 "/status", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof line, f))
		found = sscanf(line, "CapEff: %" SCNx64, ret) == 1;
	fclose(f);
	return found;
}

static void check_privileges(struct doctor *d)
{
	static const uint64_t raw = 1ull << CAP_NET_RAW, bpf = 1ull << CAP_BPF,
			      admin = 1ull << CAP_SYS_ADMIN;
	uint32_t opener = unit_main_pid("synfind-opener.service");
	uint64_t caps;

	if (capabilities_of(js_u64(d->status, "pid"), &caps)) {
		if (caps)
			finding(d, LEVEL_WARN,
				"start it as synfind.service, or as root: it then gives all up",
				"synfind has capabilities that it does not need (CapEff %" PRIx64
				")",
				caps);
		else
			finding(d, LEVEL_OK, NULL, "synfind runs without any capability");
	}
	if (!opener || !capabilities_of(opener, &caps))
		return;
	if (!(caps & (raw | admin)))
		finding(d, LEVEL_FAIL,
			"systemctl cat synfind-opener: AmbientCapabilities needs CAP_NET_RAW",
			"synfind-opener cannot open rings: it has no CAP_NET_RAW");
	else if (!strcmp(option(d, "mode"), "auto") && !(caps & (bpf | admin)))
		finding(d, LEVEL_FAIL, "systemctl cat synfind-opener: mode = auto needs CAP_BPF",
			"synfind-opener cannot load the filter of mode=auto: it has no CAP_BPF");
	else
		finding(d, LEVEL_OK, NULL, "synfind-opener has the capabilities that it needs");
}

/* ---- interfaces ---- */

static const json_t *interface_named(const struct doctor *d, const char *name)
{
	const json_t *i;
	size_t k;

	json_array_foreach((json_t *)js_at(d->status, "interfaces"), k,
			   i) if (js_is(i, "name", name)) return i;
	return NULL;
}

/* Names of the configuration that are neither words nor patterns. */
static void check_configured(struct doctor *d)
{
	const char *list = option(d, "interface");

	while (*list) {
		char name[64];
		size_t n = strcspn(list, ",");

		snprintf(name, sizeof name, "%.*s", (int)n, list);
		list += n + (list[n] == ',');
		if (strpbrk(name, "*?[") || !strcmp(name, "auto") || !strcmp(name, "any") ||
		    interface_named(d, name) || js_u64(d->status, "interfaces_more"))
			continue;
		finding(d, LEVEL_FAIL,
			"correct 'interface' in synfind.conf; what exists: ip -br link",
			"%s is configured, but there is no such interface", name);
	}
}

/* Large receive offload comes before any packet socket and forgets what it joined; GRO does not. */
static bool has_lro(const char *name)
{
	struct ethtool_value value = { .cmd = ETHTOOL_GFLAGS };
	struct ifreq request = { .ifr_data = (char *)&value };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool lro;

	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	lro = fd >= 0 && ioctl(fd, SIOCETHTOOL, &request) == 0 && (value.data & ETH_FLAG_LRO);
	if (fd >= 0)
		close(fd);
	return lro;
}

static void check_drops(struct doctor *d, const json_t *i)
{
	uint64_t drops = js_u64(i, "counts.drops"), packets = js_u64(i, "counts.packets");
	char fix[SENTENCE_MAX];

	if (!drops)
		return;
	snprintf(
		fix, sizeof fix,
		"raise ring-size in synfind.conf (now %s); if one decoder thread is at 100 %% CPU, "
		"raise decoders, or use mode = auto",
		option(d, "ring-size"));
	finding(d, LEVEL_WARN, fix,
		"%s: the kernel dropped %s of %s since the start: the ring was full",
		js_str(i, "name"), human_plural(drops, "frame").s, human_count(drops + packets).s);
}

static void check_interface(struct doctor *d, const json_t *i)
{
	const char *name = js_str(i, "name"), *state = js_str(i, "state");
	char fix[SENTENCE_MAX];

	if (!strcmp(state, "up")) {
		finding(d, LEVEL_OK, NULL, "%s is up, %s", name,
			human_plural(js_u64(i, "counts.packets"), "frame").s);
	} else {
		snprintf(fix, sizeof fix,
			 !strcmp(state, "down") ? "ip link set %s up"
						: "journalctl -u synfind -n 20",
			 name);
		finding(d, LEVEL_WARN, fix, "%s is %s: nothing is seen there", name, state);
	}
	check_drops(d, i);
	if (has_lro(name)) {
		snprintf(fix, sizeof fix, "ethtool -K %s lro off", name);
		finding(d, LEVEL_WARN, fix,
			"%s joins segments in hardware (LRO): counts of segments and times are "
			"wrong",
			name);
	}
}

static void check_interfaces(struct doctor *d)
{
	const json_t *i;
	size_t k;

	check_configured(d);
	json_array_foreach((json_t *)js_at(d->status, "interfaces"), k, i) check_interface(d, i);
	if (!k)
		finding(d, LEVEL_WARN, "set 'interface' in synfind.conf; what exists: ip -br link",
			"no interface is watched");
}

/* ---- limits ---- */

static void check_limits(struct doctor *d)
{
	uint64_t open = js_u64(d->status, "total.open");
	uint64_t max = js_u64(d->status, "limits.max_connections");
	uint64_t lost = js_u64(d->status, "total.lost");

	if (max && open > max / 10 * 9)
		finding(d, LEVEL_WARN,
			"raise max-connections in synfind.conf: about 125 octets each",
			"%s are open, the limit is %s per interface: soon connections are evicted",
			human_plural(open, "connection").s, human_count(max).s);
	else
		finding(d, LEVEL_OK, NULL, "%s open, the limit is %s per interface",
			human_plural(open, "connection").s, human_count(max).s);
	if (lost)
		finding(d, LEVEL_WARN,
			"raise event-ring-size in synfind.conf; fewer 'events' cost less CPU",
			"%s found no space between decoder and main thread, and were lost",
			human_plural(lost, "event").s);
}

static bool check_subscriber_rows(const json_t *reply, void *arg)
{
	struct doctor *d = arg;
	const json_t *s;
	size_t i;

	json_array_foreach((json_t *)js_at(reply, "subscribers"), i, s) if (js_u64(s, "lost"))
		finding(d, LEVEL_WARN,
			"it reads too slowly: choose fewer events, or raise queue-size",
			"subscriber %s, pid %" PRIu64 " (%s), lost %s",
			js_at(s, "user") ? js_str(s, "user") : "of unknown name", js_u64(s, "pid"),
			js_at(s, "program") ? js_str(s, "program") : "program unknown",
			human_plural(js_u64(s, "lost"), "event").s);
	return true;
}

static void check_subscribers(struct doctor *d)
{
	uint64_t refused = js_u64(d->status, "subscribers.refused");

	ask(&d->o->dial, "Subscribers", NULL, true, check_subscriber_rows, d);
	if (refused)
		finding(d, LEVEL_NOTE,
			"who may: allow-user, allow-group; how many: max-subscribers, "
			"max-subscribers-per-uid; who was it: journalctl -u synfind",
			"%s refused so far", human_plural(refused, "subscriber was").s);
}

static void check_version(struct doctor *d)
{
	const char *version = js_str(d->status, "version");

	if (strcmp(version, SYNFIND_VERSION) != 0)
		finding(d, LEVEL_WARN, "systemctl restart synfind: nothing is lost",
			"synfind is version %s, synfinctl %s", version, SYNFIND_VERSION);
}

static int doctor_run(const void *options, char **operands)
{
	struct doctor d = { .o = options };
	bool events, control;

	(void)operands;
	out_init(&d.out, d.o->out.color);
	check_service(&d);
	events = check_socket(&d, DIAL_TO_EVENTS);
	control = check_socket(&d, DIAL_TO_CONTROL);
	if (control && !ask_one(&d.o->dial, "Status", NULL, &d.status) &&
	    !ask_one(&d.o->dial, "Config", NULL, &d.config)) {
		check_version(&d);
		check_privileges(&d);
		check_interfaces(&d);
		check_limits(&d);
		check_subscribers(&d);
	}
	json_decref(d.status);
	json_decref(d.config);
	if (!events || !control)
		return CLI_NO_DAEMON;
	if (d.wrong)
		return CLI_NOTHING;
	return CLI_FOUND;
}

const struct cli_command doctor_command = {
	.name = "doctor",
	.operands = "",
	.summary = "Say what is wrong on this host, and what to change",
	.text = "It looks at the service, its sockets, your permission, privileges, interfaces, "
		"dropped\n"
		"frames, limits and slow subscribers. It changes nothing.\n"
		"Exit status: 0 all is well, 1 something is wrong, 3 no daemon.\n",
	.examples = "  synfinctl doctor\n"
		    "  synfinctl doctor --json | jq -r 'select(.level != \"ok\") | .fix'\n",
	.groups = doctor_groups,
	.size = sizeof(struct doctor_options),
	.run = doctor_run,
};
