/* bypassfilter.h - the decoder's access to the maps of its filter in mode=auto.
 *
 * The opener loads the filter (source/bypassload.h) and sends the maps.  Using them takes no
 * capability (since Linux 5.19), only bpf(2) with BPF_MAP_UPDATE_ELEM and BPF_MAP_DELETE_ELEM. */
#pragma once
#include "flow/bypass.h"

struct bypass_filter;

/* Owns both descriptors, also on failure.  @after_pkts: see struct bypass_kernel.  Logs what fails;
 * 0 or -errno. */
int bypass_filter_new(int flows_fd, int slots_fd, unsigned after_pkts, struct bypass_filter **ret);

/* NULL is fine. */
void bypass_filter_free(struct bypass_filter *f);

/* The tracker's interface to the filter; free the tracker first.  NULL for NULL. */
struct bypass_kernel *bypass_filter_kernel(struct bypass_filter *f);

/* Updates the difference between the filter's monotonic clock and that of the frames.  Call it
 * periodically.  NULL is fine. */
void bypass_filter_set_clock(struct bypass_filter *f);
