/* ring_reload.h - other rings for an interface that has some: the options that they were made with
 * have changed.  Its decoders go over to them without losing a frame (ring_switch.h); what cannot
 * be had is logged, and the old rings stay. */
#pragma once

struct capture;
struct opener_reply;
struct interface;

/* Asks the opener to read the options again and to list the interfaces. */
void ring_reload_list(struct capture *c);

/* The opener lists @t: asks for other rings, if there should be some. */
void ring_reload_ask(struct capture *c, struct interface *iface);

/* They have come: @n descriptors, which are ours. */
void ring_reload_rings(struct capture *c, struct interface *iface, const struct opener_reply *m,
		       const int *fds, unsigned n);

/* Have all decoders ended their turn?  Then the rings that are of no use are let go. */
void ring_reload_end(struct capture *c, struct interface *iface);
