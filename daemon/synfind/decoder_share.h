/* decoder_share.h - how the decoders of one interface, or of several, share connections. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct decoder_share {
	unsigned index, of; /* number @index of @of; of == 1: it has all connections */
	bool known;	    /* fanout_member() under @secret says which decoder has a connection */
	uint64_t secret;
	bool control; /* the filter passes SYN, FIN and RST only, whatever the mode is */
	bool shared;  /* the ring has frames of several interfaces */
};
