/* bypassfilter.h - the maps of a ring's filter in mode=auto, as its decoder uses them.
 *
 * The opener loads the filter (source/bypassload.h) and sends the maps.  To use them needs no
 * capability (from Linux 5.19 on), but bpf(2) with BPF_MAP_UPDATE_ELEM and BPF_MAP_DELETE_ELEM. */
#pragma once
#include "flow/bypass.h"

struct bypass_filter;

/* Takes over both descriptors, also on failure; @after_pkts: see struct bypass_kernel.  -errno:
 * what was missing has been logged. */
int bypass_filter_new(int flows_fd, int slots_fd, unsigned after_pkts, struct bypass_filter **ret);

/* NULL is fine. */
void bypass_filter_free(struct bypass_filter *f);

/* For the tracker, which must be freed before; NULL for NULL. */
struct bypass_kernel *bypass_filter_kernel(struct bypass_filter *f);

/* The filter's clock is not set; this tells how far it is from the one of the frames.  Call it now
 * and then.  NULL is fine. */
void bypass_filter_set_clock(struct bypass_filter *f);
