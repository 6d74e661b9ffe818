/* bulkfilter.h - loads the filter of mode=auto, bpf/bulk.bpf.c, for one ring. */
#pragma once
#include <stdbool.h>
#include "flow/bulk.h"

struct bulk_filter;

/* Loads it, with maps of its own; @raw_ip: frames begin with the IP header; @loopback: outgoing ones do
 * not pass; @after_pkts: see struct bulk_kernel.  -errno: what was missing has been logged. */
int bulk_filter_load(bool raw_ip, bool loopback, unsigned after_pkts, struct bulk_filter **ret);

/* The maps go with it, and the program with the last socket that has it.  NULL is fine. */
void bulk_filter_free(struct bulk_filter *f);

/* Descriptor of the program, for SO_ATTACH_BPF. */
int bulk_filter_fd(const struct bulk_filter *f);

/* For the tracker, which must be freed before; NULL for NULL. */
struct bulk_kernel *bulk_filter_kernel(struct bulk_filter *f);

/* The filter's clock is not set; this tells how far it is from the one of the frames.  Call it now
 * and then.  NULL is fine. */
void bulk_filter_set_clock(struct bulk_filter *f);
