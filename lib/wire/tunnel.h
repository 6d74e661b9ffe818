/* tunnel.h - tunnel types that frame_decode_inner() decapsulates.
 *
 * Layouts: RFC 7348 5 (VXLAN), RFC 8926 3 (Geneve), RFC 2784, 2890 (GRE), RFC 7637 (NVGRE),
 * draft-foschiano-erspan-03 (ERSPAN I, II, III), RFC 2003, 4213 3.5, 2473 (IP in IP),
 * 3GPP TS 29.281 5 (GTP-U). */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum tunnel_type {
	TUNNEL_NONE,
	TUNNEL_VXLAN,
	TUNNEL_GENEVE,
	TUNNEL_GRE, /* of IP, Ethernet (TEB, NVGRE) or MPLS */
	TUNNEL_ERSPAN,
	TUNNEL_IPIP, /* IPv4 in IPv4 */
	TUNNEL_6IN4,
	TUNNEL_4IN6,
	TUNNEL_6IN6,
	TUNNEL_GTP_U,
	TUNNEL_TYPES
};

/* UDP destination ports. */
enum tunnel_port {
	PORT_GTP_U = 2152,
	PORT_VXLAN = 4789,
	PORT_GENEVE = 6081,
	PORT_VXLAN_LINUX = 8472, /* Linux, before IANA assigned 4789 */
};

enum {
	TUNNEL_MAX_LEVELS = 2,
	TUNNEL_MAX_GTP_HEADERS = 8, /* extension headers of one GTP-U packet */
};

/* GTP-U has no id: its TEIDs differ between the two directions of a connection (TS 29.281 3.1). */
struct tunnel {
	uint8_t type; /* enum tunnel_type */
	bool has_id;
	uint32_t id; /* VNI, GRE key or ERSPAN session; 0 without has_id */
};

/* Name of a type, as in events. */
const char *tunnel_name(enum tunnel_type t);
