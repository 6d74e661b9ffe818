/* flowarg.h - a connection as a person names it, as an expression.
 *
 *     b31f6c0d9e5a7741                   its flow_id
 *     10.9.0.1:46114 or [2001:db8::c]:443  an end of it: address and port
 *     10.9.0.1:46114,10.9.0.2:9999       both ends; also as watch prints them: A > B
 *
 * Pure. */
#pragma once
#include "synfinctl/choose.h"

#define FLOWARG_HELP                                                                               \
	"FLOW is a flow_id, an end (10.9.0.1:46114, [2001:db8::c]:443), or both ends\n"            \
	"(10.9.0.1:46114,10.9.0.2:9999, or quoted as watch prints it: 'A > B').\n"

/* Adds the condition to @c.  CLI_FOUND, or CLI_USAGE after an error line. */
int flowarg_choose(const char *flow, struct choose *c);

/* One end, "10.9.0.2:8080", or a port alone, "8080" or ":8080"; then @ret_ip is "".  False: it is
 * neither. */
enum { FLOWARG_IP = 46 };
bool flowarg_end(const char *flow, char ret_ip[static FLOWARG_IP], unsigned *ret_port);
