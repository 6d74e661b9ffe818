/* Any octets as the options of one header, in memory of exactly their size. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "wire/tcpopt.h"

static void must(int truth)
{
	if (!truth)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	uint8_t *octets = malloc(n);

	if (n)
		memcpy(octets, in, n);

	struct tcpopt o = tcpopt_parse((struct span){ octets, n });

	must(o.wscale <= TCPOPT_WSCALE_NONE);
	must(o.timestamps || (!o.tsval && !o.tsecr));
	/* What was understood took room. */
	must((o.mss ? 4u : 0) + (o.wscale < TCPOPT_WSCALE_NONE ? 3u : 0) + (o.sack ? 2u : 0) +
		     (o.timestamps ? 10u : 0) + (o.tfo ? 2u : 0) + (o.mptcp ? 2u : 0) +
		     o.malformed <=
	     n);
	free(octets);
	return 0;
}
