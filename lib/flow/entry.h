/* entry.h - packs a connection for the flow table, and unpacks it.  Pure. */
#pragma once
#include <stdbool.h>

struct conn;
struct conn_hot;
struct conn_cold;
struct syn_entry;

/* Packs @c, if a SYN entry can hold it; false: it cannot, nothing is written. Only the window of
 * the client's SYN is lost: it comes back as the largest, and the client's ACK brings the real
 * one. */
bool syn_entry_pack(const struct conn *c, struct syn_entry *ret);

/* The same connection in full. */
void syn_entry_unpack(const struct syn_entry *restrict e, struct conn *restrict ret);

/* The parts of @c as the table keeps them, and back. */
void full_entry_split(const struct conn *c, struct conn_hot *ret_hot, struct conn_cold *ret_cold);
void full_entry_join(const struct conn_hot *h, const struct conn_cold *k, struct conn *ret);
