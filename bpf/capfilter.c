/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#include "bpf/capfilter.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/cc.h"

/* Each copy of the program has as many instructions as the original, so the distances of its jumps
 * stay as they are; only an instruction that accepts becomes a jump to the end.  What a copy reads
 * is moved by constants. */

enum { TYPE_AT = 12, TAG_OCTETS = 4, ETH_P_9100 = 0x9100 };
/* At this place and beyond it are the kernel's own values: SKF_AD_OFF, SKF_NET_OFF, SKF_LL_OFF. */
static const uint32_t special = (uint32_t)SKF_LL_OFF;

struct wrap {
	struct sock_filter *insns;
	unsigned n, max;
	int err; /* the first one */
};

static void insn_add(struct wrap *w, struct sock_filter insn)
{
	if (w->n == w->max)
		w->err = w->err ?: -ENOSPC;
	else
		w->insns[w->n++] = insn;
}

static void stmt(struct wrap *w, uint16_t code, uint32_t k)
{
	insn_add(w, (struct sock_filter)BPF_STMT(code, k));
}

static void jump_if(struct wrap *w, uint32_t k, uint8_t yes, uint8_t no)
{
	insn_add(w, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no));
}

static void load_special(struct wrap *w, unsigned field)
{
	stmt(w, BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_AD_OFF + field);
}

/* ---- what the program reads ---- */

static bool is_load(const struct sock_filter *f)
{
	unsigned class = BPF_CLASS(f->code), mode = BPF_MODE(f->code);

	return (class == BPF_LD && (mode == BPF_ABS || mode == BPF_IND)) ||
	       (class == BPF_LDX && mode == BPF_MSH);
}

static unsigned load_size(const struct sock_filter *f)
{
	if (BPF_CLASS(f->code) == BPF_LDX)
		return 1;
	return BPF_SIZE(f->code) == BPF_W ? 4 : BPF_SIZE(f->code) == BPF_H ? 2 : 1;
}

/* Does it add X, which is not known here, to a place before @at?  After a header of variable length
 * libpcap adds X to a place beyond the Ethernet header. */
static bool is_computed(const struct sock_filter *f, unsigned at)
{
	return BPF_MODE(f->code) == BPF_IND && f->k < at;
}

/* Are all octets that it reads before @at, or all of them not? */
static bool is_apart(const struct sock_filter *f, unsigned at)
{
	return f->k >= at || f->k + load_size(f) <= at;
}

/* Does the program read a frame so that tags can be skipped? */
static bool can_skip(const struct sock_filter *user, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (is_load(&user[i]) &&
		    (is_computed(&user[i], TYPE_AT) || !is_apart(&user[i], TYPE_AT)))
			return false;
	return true;
}

/* ---- copies ---- */

/* A jump may lead to any instruction after it, but not beyond the program, whose last instruction
 * returns. */
static bool is_sound(const struct sock_filter *user, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct sock_filter *f = &user[i];
		unsigned left = n - 1 - i;

		if (BPF_CLASS(f->code) == BPF_RET && BPF_RVAL(f->code) != BPF_K)
			return false; /* libpcap makes none */
		if (BPF_CLASS(f->code) != BPF_JMP)
			continue;
		if (BPF_OP(f->code) == BPF_JA ? f->k >= left : f->jt >= left || f->jf >= left)
			return false;
	}
	return n && BPF_CLASS(user[n - 1].code) == BPF_RET;
}

/* @f, for a frame whose outermost tag is beside it.  Who looks for a tag reads the type and the tag
 * as two octets each.  What reads that place in another way stands after a test for another type,
 * and is not reached. */
static struct sock_filter with_outer(struct wrap *w, struct sock_filter f)
{
	bool half = BPF_SIZE(f.code) == BPF_H && BPF_MODE(f.code) == BPF_ABS;
	uint32_t field = f.k == TYPE_AT ? SKF_AD_VLAN_TPID : SKF_AD_VLAN_TAG;

	if (is_computed(&f, ETH_HLEN))
		w->err = w->err ?: -EOPNOTSUPP;
	if (f.k >= special || f.k + load_size(&f) <= TYPE_AT)
		return f;
	if (f.k >= TYPE_AT + TAG_OCTETS || BPF_MODE(f.code) == BPF_IND)
		f.k -= TAG_OCTETS;
	else if (half && (f.k == TYPE_AT || f.k == TYPE_AT + 2))
		f = (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS,
						 (uint32_t)SKF_AD_OFF + field);
	else
		f = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	return f;
}

/* Appends the program, for a frame with @tags tags before its type; @outer: see with_outer().
 * Where it accepts, the copy jumps to @after instructions beyond its end. */
static void copy_add(struct wrap *w, const struct sock_filter *user, unsigned n, unsigned tags,
		     bool outer, unsigned after)
{
	for (unsigned i = 0; i < n; i++) {
		struct sock_filter f = user[i];

		if (BPF_CLASS(f.code) == BPF_RET && f.k)
			f = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, n - 1 - i + after);
		else if (is_load(&f) && outer)
			f = with_outer(w, f);
		else if (is_load(&f) && f.k >= TYPE_AT && f.k < special)
			f.k += TAG_OCTETS * tags;
		insn_add(w, f);
	}
}

/* Counts the tags, and goes to the copy for that number.  All copies follow. */
static void without_tags(struct wrap *w, const struct sock_filter *user, unsigned n)
{
	/* Instructions of a look: load, three comparisons, the jump to the copy. */
	enum { LOOK = 5, LOOKS = CAPFILTER_TAGS * LOOK };

	for (unsigned tags = 0; tags < CAPFILTER_TAGS; tags++) {
		stmt(w, BPF_LD | BPF_H | BPF_ABS, TYPE_AT + TAG_OCTETS * tags);
		jump_if(w, ETH_P_8021Q, 3, 0);
		jump_if(w, ETH_P_8021AD, 2, 0);
		jump_if(w, ETH_P_9100, 1, 0);
		stmt(w, BPF_JMP | BPF_JA, LOOKS - LOOK * (tags + 1) + n * (CAPFILTER_TAGS - tags));
	}
	/* The copy for the most tags is the first one. */
	for (unsigned tags = CAPFILTER_TAGS + 1; tags-- > 0;)
		copy_add(w, user, n, tags, false, n * tags);
}

static void with_outer_tag(struct wrap *w, const struct sock_filter *user, unsigned n)
{
	load_special(w, SKF_AD_VLAN_TAG_PRESENT);
	jump_if(w, 0, 0, 1);
	stmt(w, BPF_JMP | BPF_JA, n);
	copy_add(w, user, n, 0, true, n);
	copy_add(w, user, n, 0, false, 0);
}

int capfilter_wrap(const struct sock_filter *user, unsigned n, enum capfilter_tags tags,
		   struct sock_filter *insns, unsigned max)
{
	struct wrap w = { .insns = insns, .max = max };

	if (n > BPF_MAXINSNS)
		return -ENOSPC;
	if (!is_sound(user, n))
		return -EINVAL;
	if (tags == CAPFILTER_WITHOUT && can_skip(user, n))
		without_tags(&w, user, n);
	else if (tags == CAPFILTER_WITH_OUTER)
		with_outer_tag(&w, user, n);
	else
		copy_add(&w, user, n, 0, false, 0);
	return w.err ? w.err : (int)w.n;
}
