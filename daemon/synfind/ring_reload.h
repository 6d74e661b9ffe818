/* ring_reload.h - replaces the packet rings of an interface after their options have changed.  The
 * decoders lose the frames of a millisecond (ring_switch.h).  If a new ring cannot be had, that is
 * logged and the old one stays. */
#pragma once

struct capture;
struct opener_reply;
struct interface;

/* Asks the opener to read the options again and to list the interfaces. */
void ring_reload_list(struct capture *c);

/* @iface is in the opener's list: asks for new rings if its options have changed. */
void ring_reload_ask(struct capture *c, struct interface *iface);

/* The new rings of @iface have come, with @n descriptors, which it owns. */
void ring_reload_rings(struct capture *c, struct interface *iface, const struct opener_reply *m,
		       const int *fds, unsigned n);

/* Frees the unused rings once all decoders have finished their switch. */
void ring_reload_end(struct capture *c, struct interface *iface);
