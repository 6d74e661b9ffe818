/* faults.c - linked into the daemon (--wrap), makes it fail where a test says:
 *
 *   FAULTS=frame:6661:crash,frame:6662:hang,open:6663:crash,event:6664:crash,sweep:0:crash
 *
 * A frame to that port, the tcp_open of that port, any event of that port, a sweep over a table
 * that has an established connection. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "flow/event.h"
#include "flow/tracker_state.h"
#include "format/json.h"
#include "wire/frame.h"
#include "wire/segment.h"

enum frame_verdict __real_frame_decode(const struct frame *f, struct segment *ret);
enum frame_verdict __wrap_frame_decode(const struct frame *f, struct segment *ret);
void __real_json_event(struct strbuf *t, const struct event *e, uint64_t seq,
		       const struct json_context *c);
void __wrap_json_event(struct strbuf *t, const struct event *e, uint64_t seq,
		       const struct json_context *c);
bool __real_timeout_sweep(struct tracker *t);
bool __wrap_timeout_sweep(struct tracker *t);

static struct fault {
	char place[8], how[8];
	unsigned port;
} fault[8];
static unsigned faults;

__attribute__((constructor)) static void faults_init(void)
{
	const char *p = getenv("FAULTS");
	struct fault *f = fault;

	while (p && *p && faults < 8 &&
	       sscanf(p, "%7[^:]:%u:%7[^,]", f->place, &f->port, f->how) == 3) {
		f = &fault[++faults];
		p = strchr(p, ',');
		p += !!p;
	}
}

static void fail_if(const char *place, unsigned port)
{
	for (const struct fault *f = fault; f < fault + faults; f++) {
		if (strcmp(f->place, place) || f->port != port)
			continue;
		if (!strcmp(f->how, "crash"))
			__builtin_trap();
		for (;;)
			sleep(1);
	}
}

enum frame_verdict __wrap_frame_decode(const struct frame *f, struct segment *ret)
{
	enum frame_verdict v = __real_frame_decode(f, ret);

	if (v == FRAME_TCP)
		fail_if("frame", ret->dport);
	return v;
}

void __wrap_json_event(struct strbuf *t, const struct event *e, uint64_t seq,
		       const struct json_context *c)
{
	if (e->kind == EVENT_TCP_OPEN)
		fail_if("open", e->port[1]);
	fail_if("event", e->port[1]);
	__real_json_event(t, e, seq, c);
}

bool __wrap_timeout_sweep(struct tracker *t)
{
	if (counter_get(&t->count->states[FSM_OPEN]))
		fail_if("sweep", 0);
	return __real_timeout_sweep(t);
}
