#include "synfinctl/choose.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "format/where.h"

static const char states_text[] =
	"listen|syn_sent|syn_received|established|fin_wait_1|fin_wait_2|close_wait|closing|"
	"last_ack|time_wait|closed";

const struct cli_flag choose_flags[] = {
	{ "port", 'p', CLI_LIST, offsetof(struct choose_options, port), "PORT,...",
	  "The client or the server has this port.", NULL },
	{ "host", 'H', CLI_LIST, offsetof(struct choose_options, host), "HOST,...",
	  "The client or the server has this address; a name is looked up.", NULL },
	{ "net", 'n', CLI_LIST, offsetof(struct choose_options, net), "NET/LEN,...",
	  "The client or the server is in this network.", NULL },
	{ "state", 's', CLI_LIST, offsetof(struct choose_options, state), "STATE,...",
	  "The client or the server is in this state: established, close_wait, ...", states_text },
	{ "interface", 'i', CLI_LIST, offsetof(struct choose_options, iface), "NAME,...",
	  "It was seen on this interface.", NULL },
	{ "where", 'w', CLI_STRING, offsetof(struct choose_options, where), "EXPR",
	  "This expression holds: \"flow.retrans_toserver > 3\" (synfind-requests(7)).", NULL },
	{ 0 },
};

static void choose_add(struct choose *c, const char *fmt, va_list ap)
{
	int n = vsnprintf(c->text + c->n, sizeof c->text - c->n, fmt, ap);

	if (n < 0 || (size_t)n >= sizeof c->text - c->n)
		c->full = true;
	else
		c->n += (size_t)n;
}

__attribute__((format(printf, 2, 3))) static void choose_put(struct choose *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	choose_add(c, fmt, ap);
	va_end(ap);
}

void choose_and(struct choose *c, const char *fmt, ...)
{
	va_list ap;

	choose_put(c, c->n ? " && (" : "(");
	va_start(ap, fmt);
	choose_add(c, fmt, ap);
	va_end(ap);
	choose_put(c, ")");
}

/* A || between alternatives, an && before the first one. */
static void alternative(struct choose *c, unsigned i)
{
	choose_put(c, "%s", i ? " || " : c->n ? " && (" : "(");
}

static int choose_ports(struct choose *c, const struct cli_list *ports)
{
	for (unsigned i = 0; i < ports->n; i++) {
		char *end;
		unsigned long port = strtoul(ports->items[i], &end, 10);

		if (!isdigit((unsigned char)*ports->items[i]) || *end || port > 65535)
			return cli_error(CLI_USAGE, "--port: '%s' is not a port", ports->items[i]);
		alternative(c, i);
		choose_put(c, "src_port == %lu || dest_port == %lu", port, port);
	}
	if (ports->n)
		choose_put(c, ")");
	return CLI_FOUND;
}

/* All addresses of a name, or the one that it is. */
static int choose_host(struct choose *c, unsigned *n, const char *host)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	char text[INET6_ADDRSTRLEN];
	int r = getaddrinfo(host, NULL, &hints, &list);

	if (r)
		return cli_error(CLI_USAGE, "--host: '%s': %s", host, gai_strerror(r));
	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0,
				NI_NUMERICHOST))
			continue;
		text[strcspn(text, "%")] = 0; /* a scope is no part of the address */
		alternative(c, (*n)++);
		choose_put(c, "src_ip == '%s' || dest_ip == '%s'", text, text);
	}
	freeaddrinfo(list);
	return CLI_FOUND;
}

static int choose_hosts(struct choose *c, const struct cli_list *hosts)
{
	unsigned n = 0;

	for (unsigned i = 0; i < hosts->n; i++) {
		int r = choose_host(c, &n, hosts->items[i]);

		if (r)
			return r;
	}
	if (n)
		choose_put(c, ")");
	return CLI_FOUND;
}

/* Quotes would end the string in the expression: the check of the whole would name a character
 * that the user did not write. */
static int choose_word(const char *flag, const char *s)
{
	if (strpbrk(s, "'\\\n"))
		return cli_error(CLI_USAGE, "--%s: '%s' has a quote, backslash or newline", flag,
				 s);
	return CLI_FOUND;
}

static int choose_nets(struct choose *c, const struct cli_list *nets)
{
	for (unsigned i = 0; i < nets->n; i++) {
		unsigned char addr[16];
		char text[INET6_ADDRSTRLEN] = "";
		const char *slash = strchr(nets->items[i], '/');

		if (slash)
			snprintf(text, sizeof text, "%.*s", (int)(slash - nets->items[i]),
				 nets->items[i]);
		if (!slash || !isdigit((unsigned char)slash[1]) ||
		    atoi(slash + 1) > (strchr(text, ':') ? 128 : 32) ||
		    inet_pton(strchr(text, ':') ? AF_INET6 : AF_INET, text, addr) != 1 ||
		    choose_word("net", slash))
			return cli_error(CLI_USAGE,
					 "--net: '%s' is not a network, as in 10.0.0.0/8",
					 nets->items[i]);
		alternative(c, i);
		choose_put(c, "cidr('%s').containsIP(src_ip) || cidr('%s').containsIP(dest_ip)",
			   nets->items[i], nets->items[i]);
	}
	if (nets->n)
		choose_put(c, ")");
	return CLI_FOUND;
}

static bool is_state(const char *s)
{
	size_t n = strlen(s);

	for (const char *at = states_text; *at; at += strcspn(at, "|"), at += *at == '|')
		if (strcspn(at, "|") == n && !memcmp(at, s, n))
			return true;
	return false;
}

static int choose_states(struct choose *c, const struct cli_list *states)
{
	for (unsigned i = 0; i < states->n; i++) {
		const char *s = states->items[i];

		if (!is_state(s))
			return cli_error(CLI_USAGE, "--state: '%s' is not one of %s", s,
					 states_text);
		alternative(c, i);
		choose_put(c, "tcp.client_state == '%s' || tcp.server_state == '%s'", s, s);
	}
	if (states->n)
		choose_put(c, ")");
	return CLI_FOUND;
}

static int choose_interfaces(struct choose *c, const struct cli_list *names)
{
	for (unsigned i = 0; i < names->n; i++) {
		if (choose_word("interface", names->items[i]))
			return CLI_USAGE;
		alternative(c, i);
		choose_put(c, "in_iface == '%s'", names->items[i]);
	}
	if (names->n)
		choose_put(c, ")");
	return CLI_FOUND;
}

int choose_compile(const char *what, const char *text, struct where **ret)
{
	struct where_error e;
	int r = where_compile(ret, text, strlen(text), &e);

	if (r == -EINVAL)
		return cli_error(CLI_USAGE, "%s, character %u: %s", what, e.at, e.text);
	return r < 0 ? cli_error(CLI_FAILED, "out of memory") : CLI_FOUND;
}

static int check(const char *what, const char *text)
{
	struct where *w = NULL;
	int r = choose_compile(what, text, &w);

	where_free(w);
	return r;
}

int choose_make(const struct choose_options *o, struct choose *ret)
{
	int r;

	*ret = (struct choose){ 0 };
	/* By itself, so that an error has the character that the user wrote. */
	if (o->where && (r = check("--where", o->where)))
		return r;
	if ((r = choose_ports(ret, &o->port)) || (r = choose_hosts(ret, &o->host)) ||
	    (r = choose_nets(ret, &o->net)) || (r = choose_states(ret, &o->state)) ||
	    (r = choose_interfaces(ret, &o->iface)))
		return r;
	if (o->where)
		choose_and(ret, "%s", o->where);
	return CLI_FOUND;
}

int choose_check(const struct choose *c)
{
	if (c->full)
		return cli_error(CLI_USAGE,
				 "the flags choose too much: the expression is too long");
	return c->n ? check("expression of the flags", c->text) : CLI_FOUND;
}
