#include "synfinctl/flowarg.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

enum { FLOW_ID_DIGITS = 16 };

/* The end that begins at @s, and what follows it; NULL: no end begins there.  The address is as
 * lines spell it. */
static const char *parse_end(const char *s, char *ret_ip, unsigned *ret_port)
{
	unsigned char addr[16];
	char text[INET6_ADDRSTRLEN + 1] = "", *end;
	bool v6 = *s == '[';
	size_t n = strcspn(s += v6, v6 ? "]" : ":");

	if (n >= sizeof text || !s[n])
		return NULL;
	memcpy(text, s, n);
	s += n + v6;
	if (inet_pton(v6 ? AF_INET6 : AF_INET, text, addr) != 1 || *s != ':' || s[1] < '0' ||
	    s[1] > '9')
		return NULL;
	*ret_port = (unsigned)strtoul(s + 1, &end, 10);
	inet_ntop(v6 ? AF_INET6 : AF_INET, addr, ret_ip, INET6_ADDRSTRLEN);
	return *ret_port > 65535 ? NULL : end;
}

int flowarg_choose(const char *flow, struct choose *c)
{
	char a[INET6_ADDRSTRLEN], b[INET6_ADDRSTRLEN];
	unsigned pa, pb;
	const char *s;

	if (strlen(flow) == FLOW_ID_DIGITS && strspn(flow, "0123456789abcdef") == FLOW_ID_DIGITS) {
		choose_and(c, "flow_id == '%s'", flow);
		return CLI_FOUND;
	}
	s = parse_end(flow, a, &pa);
	if (s && !*s) {
		choose_and(c,
			   "src_ip == '%s' && src_port == %u || dest_ip == '%s' && dest_port == %u",
			   a, pa, a, pa);
		return CLI_FOUND;
	}
	if (s && s[strspn(s, " >,")])
		s = parse_end(s + strspn(s, " >,"), b, &pb);
	else
		s = NULL;
	if (!s || *s)
		return cli_error(
			CLI_USAGE,
			"'%s' names no connection: a flow_id has 16 hexadecimal digits, an "
			"end is ADDRESS:PORT",
			flow);
	choose_and(c,
		   "src_ip == '%s' && src_port == %u && dest_ip == '%s' && dest_port == %u || "
		   "src_ip == '%s' && src_port == %u && dest_ip == '%s' && dest_port == %u",
		   a, pa, b, pb, b, pb, a, pa);
	return CLI_FOUND;
}

bool flowarg_end(const char *flow, char ret_ip[static FLOWARG_IP], unsigned *ret_port)
{
	const char *port = flow + (*flow == ':'), *rest;

	if (*port && strspn(port, "0123456789") == strlen(port) && strlen(port) <= 5) {
		*ret_ip = 0;
		*ret_port = (unsigned)atoi(port);
		return *ret_port <= 65535;
	}
	rest = parse_end(flow, ret_ip, ret_port);
	return rest && !*rest;
}
