#include "common/capfilter.h"
#include <ctype.h>
#include <errno.h>
#include <linux/filter.h>
#include <nss.h>
#include <pcap/pcap.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bpf/capfilter.h"
#include "wire/frame.h"
#include "wire/link.h"

_Static_assert(sizeof(struct sock_filter) == sizeof(struct bpf_insn) &&
		       offsetof(struct sock_filter, k) == offsetof(struct bpf_insn, k) &&
		       offsetof(struct sock_filter, jf) == offsetof(struct bpf_insn, jf),
	       "the kernel's instructions are libpcap's");

enum { SNAPLEN = 262144, NULL_OCTETS = 4 };

__attribute__((format(printf, 3, 4))) static int capfilter_refuse(char *reterr, int error,
								  const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reterr, CAPFILTER_ERROR_MAX, fmt, ap);
	va_end(ap);
	return error;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

/* Has the expression the keyword? */
static bool says(const char *text, const char *keyword)
{
	size_t n = strlen(keyword);

	for (const char *s = text; (s = strstr(s, keyword)); s += n)
		if ((s == text || !is_word(s[-1])) && !is_word(s[n]))
			return true;
	return false;
}

/* Does the expression read octets of the Ethernet header: ether[...], link[...]? */
static bool reads_header(const char *text)
{
	static const char *const header[] = { "ether", "link" };

	for (unsigned i = 0; i < 2; i++)
		for (const char *s = text; (s = strstr(s, header[i]));) {
			s += strlen(header[i]);
			if (s[strspn(s, " \t")] == '[')
				return true;
		}
	return false;
}

/* DLT_* for frames of a file; what precedes IP in LINK_NULL is skipped by capfilter_passes(). */
static int dlt_of(unsigned link)
{
	static const int dlt[LINK_TYPES] = {
		[LINK_ETHERNET] = DLT_EN10MB,
		[LINK_RAW_IP] = DLT_RAW,
		[LINK_NULL] = DLT_RAW,
		[LINK_SLL] = DLT_LINUX_SLL,
		[LINK_SLL2] = DLT_LINUX_SLL2,
		[LINK_PPP] = DLT_PPP,
		[LINK_PPPOE] = DLT_PPP_ETHER,
		[LINK_80211] = DLT_IEEE802_11,
		[LINK_RADIOTAP] = DLT_IEEE802_11_RADIO,
	};

	return dlt[link];
}

/* libpcap resolves names as it compiles. */
static void look_only_in_files(void)
{
	__nss_configure_lookup("hosts", "files");
	__nss_configure_lookup("networks", "files");
	__nss_configure_lookup("services", "files");
	__nss_configure_lookup("protocols", "files");
	__nss_configure_lookup("ethers", "files");
}

/* Why capfilter_wrap() does not take a program of @n instructions, as -errno. */
static int explain(int error, enum capfilter_tags tags, unsigned n, char *reterr)
{
	static const unsigned copies[] = { 1, CAPFILTER_TAGS + 1, 2 };

	switch (error) {
	case -EINVAL:
		return capfilter_refuse(reterr, error,
					"the kernel cannot run it: protochain is not possible");
	case -EOPNOTSUPP:
		return capfilter_refuse(
			reterr, -EINVAL,
			"an expression with vlan cannot also compute places in the frame");
	default:
		return capfilter_refuse(reterr, error,
					"it takes %u instructions; allowed: up to %u", n,
					(CAPFILTER_MAX - 5 * CAPFILTER_TAGS) / copies[tags]);
	}
}

/* Compiles @text and puts it into @insns.  Its number of instructions, or -errno. */
static int build(const char *text, int dlt, enum capfilter_tags tags, struct sock_filter *insns,
		 unsigned max, char *reterr)
{
	struct bpf_program p;
	pcap_t *pcap;
	int r;

	look_only_in_files();
	pcap = pcap_open_dead(dlt, SNAPLEN);
	if (!pcap)
		return capfilter_refuse(reterr, -ENOMEM, "out of memory");
	if (pcap_compile(pcap, &p, text, 1, PCAP_NETMASK_UNKNOWN) < 0) {
		r = capfilter_refuse(reterr, -EINVAL, "%s", pcap_geterr(pcap));
	} else {
		r = capfilter_wrap((const struct sock_filter *)p.bf_insns, p.bf_len, tags, insns,
				   max);
		if (r < 0)
			r = explain(r, tags, p.bf_len, reterr);
		pcap_freecode(&p);
	}
	pcap_close(pcap);
	return r;
}

int capfilter_build(const char *text, unsigned link, struct sock_filter *insns,
		    char reterr[static CAPFILTER_ERROR_MAX])
{
	enum capfilter_tags tags = link != LINK_ETHERNET ? CAPFILTER_AS_IS
				   : says(text, "vlan")	 ? CAPFILTER_WITH_OUTER
							 : CAPFILTER_WITHOUT;

	if (tags == CAPFILTER_WITH_OUTER && reads_header(text))
		return capfilter_refuse(
			reterr, -EINVAL,
			"an expression with vlan cannot also read ether[...] or link[...]");
	return build(text, dlt_of(link), tags, insns, CAPFILTER_MAX, reterr);
}

int capfilter_open(const char *text, unsigned link, struct capfilter *ret,
		   char reterr[static CAPFILTER_ERROR_MAX])
{
	bool without = link == LINK_ETHERNET && !says(text, "vlan");
	struct sock_filter *insns = calloc(CAPFILTER_MAX + 1, sizeof *insns);
	int r;

	if (!insns)
		return capfilter_refuse(reterr, -ENOMEM, "out of memory");
	r = build(text, dlt_of(link), without ? CAPFILTER_WITHOUT : CAPFILTER_AS_IS, insns,
		  CAPFILTER_MAX, reterr);
	if (r < 0) {
		free(insns);
		return r;
	}
	insns[r] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SNAPLEN);
	*ret = (struct capfilter){ (unsigned)r + 1, insns };
	return 0;
}

void capfilter_close(struct capfilter *c)
{
	free(c->insns);
	*c = (struct capfilter){ 0 };
}

bool capfilter_passes(const struct capfilter *c, const struct frame *f)
{
	unsigned skip = f->link == LINK_NULL ? NULL_OCTETS : 0;

	return f->caplen >= skip && bpf_filter((const struct bpf_insn *)c->insns, f->data + skip,
					       f->len - skip, f->caplen - skip);
}
