#include "synfind/rescue.h"

/* Kills in a row, this one included, before the task succeeded. */
static uint32_t kills_now(const struct rescue *r, bool crashed)
{
	bool done = r->done & 1u << (r->task & 31);

	return crashed || done || r->task == RESCUE_IDLE ? 0 : r->kills + 1;
}

/* 0: the last death proves nothing. */
static uint32_t deaths_now(const struct rescue *r, bool crashed)
{
	bool counts = crashed || r->task == RESCUE_ADOPT || kills_now(r, crashed) >= RESCUE_KILLS;

	if (r->task == RESCUE_IDLE || !counts)
		return 0;
	return r->deaths < RESCUE_ALL_NEW ? r->deaths + 1 : RESCUE_ALL_NEW;
}

bool rescue_is_hopeless(const struct rescue *r, bool crashed)
{
	return deaths_now(r, crashed) >= RESCUE_ALL_NEW;
}

enum rescue_step rescue_adopt(struct rescue *r, bool crashed)
{
	uint32_t deaths = deaths_now(r, crashed), kills = kills_now(r, crashed);

	if (deaths)
		*r = (struct rescue){ .died_of = r->task,
				      .deaths = deaths,
				      .single = RESCUE_TAKES };
	r->task = RESCUE_ADOPT;
	r->done = 0;
	r->kills = kills;
	if (deaths == RESCUE_SKIP && r->died_of != RESCUE_TAKE)
		return RESCUE_ONE_BY_ONE; /* there is nothing to skip */
	return (enum rescue_step)deaths;
}

struct rescue rescue_renewed(const struct rescue *r)
{
	return (struct rescue){ .task = RESCUE_ADOPT,
				.died_of = r->died_of,
				.deaths = r->deaths,
				.single = RESCUE_TAKES };
}

void rescue_survived(struct rescue *r, uint32_t task)
{
	if (task == RESCUE_TAKE && r->single)
		r->single--;
	if (task != r->died_of)
		return;
	/* One that was skipped may be followed by another: the next death skips that at once. */
	r->deaths = task == RESCUE_TAKE && r->single ? 1 : 0;
}
