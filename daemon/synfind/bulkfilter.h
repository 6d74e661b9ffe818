/* bulkfilter.h - the maps of a ring's filter in mode=auto, as its decoder uses them.
 *
 * The opener loads the filter (source/bulkload.h) and sends the maps.  To use them needs no
 * capability (from Linux 5.19 on), but bpf(2) with BPF_MAP_UPDATE_ELEM and BPF_MAP_DELETE_ELEM. */
#pragma once
#include "flow/bulk.h"

struct bulk_filter;

/* Takes over both descriptors, also on failure; @after_pkts: see struct bulk_kernel.  -errno: what
 * was missing has been logged. */
int bulk_filter_new(int flows_fd, int slots_fd, unsigned after_pkts, struct bulk_filter **ret);

/* NULL is fine. */
void bulk_filter_free(struct bulk_filter *f);

/* For the tracker, which must be freed before; NULL for NULL. */
struct bulk_kernel *bulk_filter_kernel(struct bulk_filter *f);

/* The filter's clock is not set; this tells how far it is from the one of the frames.  Call it now
 * and then.  NULL is fine. */
void bulk_filter_set_clock(struct bulk_filter *f);
