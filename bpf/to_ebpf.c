/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#include "bpf/to_ebpf.h"
#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cc.h"

/* A is register 0: BPF_LD_ABS and BPF_LD_IND load it, and a program returns it.  They want the
 * context in register 6, and destroy registers 1 to 5. */
enum { A = BPF_REG_0, CTX = BPF_REG_6, X = BPF_REG_7, SAVED = BPF_REG_8 };
enum { PIECE_MAX = 6 };
_Static_assert(BPF_MAXINSNS *PIECE_MAX <= INT16_MAX, "each jump has space for its distance");

/* Instructions for one classic instruction. */
struct piece {
	struct bpf_insn insn[PIECE_MAX];
	int to[PIECE_MAX]; /* where it jumps, as the number of a classic instruction; -1: it does
			      not, or .off is set */
	unsigned n;
	int err; /* the first one */
};

static struct bpf_insn *piece_add(struct piece *p, uint8_t code, uint8_t dst, uint8_t src,
				  int16_t off, uint32_t imm)
{
	p->to[p->n] = -1;
	p->insn[p->n] = (struct bpf_insn){
		.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = (int32_t)imm
	};
	return &p->insn[p->n++];
}

static void jump_add(struct piece *p, uint8_t code, uint8_t src, uint32_t imm, unsigned to)
{
	piece_add(p, code, BPF_OP(code) == BPF_JA ? 0 : A, src, 0, imm);
	p->to[p->n - 1] = (int)to;
}

static void move(struct piece *p, uint8_t dst, uint8_t src)
{
	piece_add(p, BPF_ALU | BPF_MOV | BPF_X, dst, src, 0, 0);
}

static void set(struct piece *p, uint8_t dst, uint32_t value)
{
	piece_add(p, BPF_ALU | BPF_MOV | BPF_K, dst, 0, 0, value);
}

static void return_a(struct piece *p)
{
	piece_add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* Loads a member of struct __sk_buff. */
static void load_context(struct piece *p, uint8_t dst, size_t at)
{
	piece_add(p, BPF_LDX | BPF_MEM | BPF_W, dst, CTX, (int16_t)at, 0);
}

/* M[k] lies on the stack. */
static int16_t place_of(uint32_t k)
{
	return (int16_t)(((int)k - BPF_MEMWORDS) * 4);
}

/* ---- loads ---- */

/* What the kernel knows of the frame. */
static void load_special(struct piece *p, uint32_t field)
{
	static const struct {
		uint32_t field;
		uint16_t at;
		bool be16; /* classic programs get it in the order of the host */
	} special[] = {
		{ SKF_AD_PROTOCOL, offsetof(struct __sk_buff, protocol), true },
		{ SKF_AD_PKTTYPE, offsetof(struct __sk_buff, pkt_type), false },
		{ SKF_AD_IFINDEX, offsetof(struct __sk_buff, ifindex), false },
		{ SKF_AD_MARK, offsetof(struct __sk_buff, mark), false },
		{ SKF_AD_QUEUE, offsetof(struct __sk_buff, queue_mapping), false },
		{ SKF_AD_RXHASH, offsetof(struct __sk_buff, hash), false },
		{ SKF_AD_VLAN_TAG, offsetof(struct __sk_buff, vlan_tci), false },
		{ SKF_AD_VLAN_TAG_PRESENT, offsetof(struct __sk_buff, vlan_present), false },
		{ SKF_AD_VLAN_TPID, offsetof(struct __sk_buff, vlan_proto), true },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(special); i++) {
		if (special[i].field != field)
			continue;
		load_context(p, A, special[i].at);
		if (special[i].be16)
			piece_add(p, BPF_ALU | BPF_END | BPF_TO_BE, A, 0, 0, 16);
		return;
	}
	p->err = -EOPNOTSUPP;
}

static void load_frame(struct piece *p, const struct sock_filter *f)
{
	if (BPF_MODE(f->code) == BPF_ABS && f->k >= (uint32_t)SKF_AD_OFF)
		load_special(p, f->k - (uint32_t)SKF_AD_OFF);
	else
		piece_add(p, (uint8_t)f->code, 0, BPF_MODE(f->code) == BPF_IND ? X : 0, 0, f->k);
}

static void load(struct piece *p, const struct sock_filter *f)
{
	uint8_t dst = BPF_CLASS(f->code) == BPF_LD ? A : X;

	switch (f->code) {
	case BPF_LD | BPF_IMM:
	case BPF_LDX | BPF_IMM:
		set(p, dst, f->k);
		break;
	case BPF_LD | BPF_MEM:
	case BPF_LDX | BPF_MEM:
		piece_add(p, BPF_LDX | BPF_MEM | BPF_W, dst, BPF_REG_10, place_of(f->k), 0);
		break;
	case BPF_LD | BPF_LEN:
	case BPF_LDX | BPF_LEN:
		load_context(p, dst, offsetof(struct __sk_buff, len));
		break;
	case BPF_LDX | BPF_MSH | BPF_B: /* the length of an IPv4 header */
		move(p, SAVED, A);
		piece_add(p, BPF_LD | BPF_ABS | BPF_B, 0, 0, 0, f->k);
		piece_add(p, BPF_ALU | BPF_AND | BPF_K, A, 0, 0, 15);
		piece_add(p, BPF_ALU | BPF_LSH | BPF_K, A, 0, 0, 2);
		move(p, X, A);
		move(p, A, SAVED);
		break;
	case BPF_LD | BPF_ABS | BPF_W:
	case BPF_LD | BPF_ABS | BPF_H:
	case BPF_LD | BPF_ABS | BPF_B:
	case BPF_LD | BPF_IND | BPF_W:
	case BPF_LD | BPF_IND | BPF_H:
	case BPF_LD | BPF_IND | BPF_B:
		load_frame(p, f);
		break;
	default:
		p->err = -EINVAL;
	}
}

/* ---- the other instructions ---- */

static void alu(struct piece *p, const struct sock_filter *f)
{
	bool by_x = BPF_SRC(f->code) == BPF_X;

	switch (BPF_OP(f->code)) {
	case BPF_NEG:
		p->err = by_x ? -EINVAL : 0;
		piece_add(p, BPF_ALU | BPF_NEG, A, 0, 0, 0);
		return;
	case BPF_DIV:
	case BPF_MOD:
		if (by_x) { /* by 0: the frame is rejected */
			piece_add(p, BPF_JMP32 | BPF_JNE | BPF_K, X, 0, 2, 0);
			set(p, A, 0);
			return_a(p);
		}
		break;
	default:
		p->err = BPF_OP(f->code) > BPF_XOR ? -EINVAL : 0;
	}
	piece_add(p, (uint8_t)f->code, A, by_x ? X : 0, 0, by_x ? 0 : f->k);
}

static void jump(struct piece *p, const struct sock_filter *f, unsigned next)
{
	bool by_x = BPF_SRC(f->code) == BPF_X;

	switch (BPF_OP(f->code)) {
	case BPF_JA:
		p->err = by_x ? -EINVAL : 0;
		jump_add(p, BPF_JMP | BPF_JA, 0, 0, next + f->k);
		break;
	case BPF_JEQ:
	case BPF_JGT:
	case BPF_JGE:
	case BPF_JSET:
		jump_add(p, BPF_JMP32 | BPF_OP(f->code) | BPF_SRC(f->code), by_x ? X : 0,
			 by_x ? 0 : f->k, next + f->jt);
		if (f->jf)
			jump_add(p, BPF_JMP | BPF_JA, 0, 0, next + f->jf);
		break;
	default:
		p->err = -EINVAL;
	}
}

/* Instruction number @i. */
static struct piece piece_of(const struct sock_filter *classic, unsigned i)
{
	const struct sock_filter *f = &classic[i];
	struct piece p = { .n = 0 };

	switch (BPF_CLASS(f->code)) {
	case BPF_LD:
	case BPF_LDX:
		load(&p, f);
		break;
	case BPF_ST:
	case BPF_STX:
		p.err = f->code > BPF_STX ? -EINVAL : 0;
		piece_add(&p, BPF_STX | BPF_MEM | BPF_W, BPF_REG_10, f->code == BPF_ST ? A : X,
			  place_of(f->k), 0);
		break;
	case BPF_ALU:
		alu(&p, f);
		break;
	case BPF_JMP:
		jump(&p, f, i + 1);
		break;
	case BPF_RET:
		if (f->code == (BPF_RET | BPF_K))
			set(&p, A, f->k);
		else if (f->code != (BPF_RET | BPF_A))
			p.err = -EINVAL;
		return_a(&p);
		break;
	case BPF_MISC:
		if (f->code == (BPF_MISC | BPF_TAX))
			move(&p, X, A);
		else if (f->code == (BPF_MISC | BPF_TXA))
			move(&p, A, X);
		else
			p.err = -EINVAL;
		break;
	}
	if (f->code > UINT8_MAX)
		p.err = -EINVAL;
	return p;
}

/* ---- all together ---- */

static bool uses_memory(const struct sock_filter *f)
{
	unsigned class = BPF_CLASS(f->code);

	return class == BPF_ST || class == BPF_STX ||
	       ((class == BPF_LD || class == BPF_LDX) && BPF_MODE(f->code) == BPF_MEM);
}

/* Marks what can come after instruction @i.  Instructions that cannot be reached are left out,
 * because the kernel refuses an eBPF program that has any. */
static int mark_next(const struct sock_filter *classic, unsigned i, unsigned n, bool *reached)
{
	const struct sock_filter *f = &classic[i];
	unsigned next = i + 1, left = n - next;

	if (uses_memory(f) && f->k >= BPF_MEMWORDS)
		return -EINVAL;
	if (BPF_CLASS(f->code) == BPF_RET)
		return 0;
	if (BPF_CLASS(f->code) != BPF_JMP) {
		reached[next] = true;
	} else if (BPF_OP(f->code) == BPF_JA) {
		if (f->k > left)
			return -EINVAL;
		reached[next + f->k] = true;
	} else {
		if (f->jt > left || f->jf > left)
			return -EINVAL;
		reached[next + f->jt] = reached[next + f->jf] = true;
	}
	return 0;
}

static const struct bpf_insn prologue[] = {
	{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = CTX, .src_reg = BPF_REG_1 },
	{ .code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = A },
	{ .code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = X },
};
static const struct bpf_insn epilogue[] = {
	{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_1, .src_reg = CTX },
};

/* The place of each instruction's piece, and of the epilogue.  Returns that, or -errno. */
static int place_all(const struct sock_filter *classic, unsigned n, bool *reached, unsigned *at)
{
	unsigned place = ARRAY_SIZE(prologue);

	reached[0] = true;
	for (unsigned i = 0; i < n; i++) {
		at[i] = place;
		if (!reached[i])
			continue;

		int r = mark_next(classic, i, n, reached);
		struct piece p = piece_of(classic, i);

		if (r < 0 || p.err)
			return r < 0 ? r : p.err;
		place += p.n;
	}
	at[n] = place;
	return reached[n] ? (int)place : -ENODATA;
}

static void write_piece(struct piece *p, const unsigned *at, struct bpf_insn *insns, unsigned place)
{
	for (unsigned i = 0; i < p->n; i++) {
		if (p->to[i] >= 0)
			p->insn[i].off = (int16_t)(at[p->to[i]] - (place + i + 1));
		insns[place + i] = p->insn[i];
	}
}

int to_ebpf(const struct sock_filter *classic, unsigned n, struct bpf_insn *insns, unsigned max)
{
	bool reached[BPF_MAXINSNS + 1] = { false };
	unsigned at[BPF_MAXINSNS + 1];

	if (n > BPF_MAXINSNS)
		return -ENOSPC;

	int end = place_all(classic, n, reached, at);
	unsigned all = (unsigned)end + ARRAY_SIZE(epilogue);

	if (end < 0 || !insns)
		return end < 0 ? end : (int)all;
	if (all > max)
		return -ENOSPC;
	for (unsigned i = 0; i < ARRAY_SIZE(prologue); i++)
		insns[i] = prologue[i];
	for (unsigned i = 0; i < n; i++) {
		struct piece p = { .n = 0 };

		if (reached[i])
			p = piece_of(classic, i);
		write_piece(&p, at, insns, at[i]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(epilogue); i++)
		insns[(unsigned)end + i] = epilogue[i];
	return (int)all;
}
