/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Headers around a packet: those of tunnels, VLANs and MPLS.
 *
 * IP protocols that only tunnels have are always looked into. UDP is looked into at the ports at
 * which tunnels of this host listen: user space writes them, so that any other datagram costs one
 * comparison. What follows the UDP header shows itself which tunnel it is.
 */
#pragma once

enum {
	PT_TUNNEL_PORTS = 8,
	PT_OUTER_HEADERS = 6, /* a tunnel in a tunnel, with VLAN tags or MPLS labels */
};

/* UDP ports of tunnels, the first ones of the array; 0 where there is no further one. */
__be16 tunnel_ports[PT_TUNNEL_PORTS] SEC(".data.tunnels");

static __always_inline bool is_tunnel_port(__be16 port)
{
	__u32 i;

#pragma unroll
	for (i = 0; i < PT_TUNNEL_PORTS; i++) {
		if (!tunnel_ports[i])
			return false;
		if (tunnel_ports[i] == port)
			return true;
	}
	return false;
}

/*
 * Whether an IP packet can carry another one: by its protocol, or an extension header in its place,
 * and by its contents, 0 where they are not in one piece with the header.
 */
static __always_inline bool may_carry(__u8 protocol, const void *l4)
{
	const __u64 carriers = 1ULL << IPPROTO_HOPOPTS | 1ULL << IPPROTO_IPIP |
			       1ULL << IPPROTO_IPV6 | 1ULL << IPPROTO_ROUTING |
			       1ULL << IPPROTO_GRE | 1ULL << IPPROTO_DSTOPTS;

	if (protocol == IPPROTO_UDP)
		return l4 ? is_tunnel_port(((const __be16 *)l4)[1]) : tunnel_ports[0];
	return protocol < 64 && carriers >> protocol & 1;
}

static __always_inline bool is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

static __always_inline bool is_tag(__be16 protocol)
{
	return is_vlan(protocol) || protocol == bpf_htons(ETH_P_MPLS_UC);
}

/* Instead of an EtherType: IP of either version, which its first bits show. */
enum { SOME_IP = 0 };

/* RFC 2784 and 2890; version 1 is PPTP's. `h` is what is behind the IP header at `l4`. */
static __always_inline bool enter_gre(struct view *v, const unsigned char *l4, const __be16 *h)
{
	const __be16 flags = h[0];

	v->l3 = l4 + GRE_HLEN;
	v->l3 += flags & bpf_htons(GRE_CSUM) ? 4 : 0;
	v->l3 += flags & bpf_htons(GRE_KEY) ? 4 : 0;
	v->l3 += flags & bpf_htons(GRE_SEQ) ? 4 : 0;
	v->protocol = h[1];
	return !(flags & bpf_htons(GRE_VERSION));
}

/*
 * Geneve (RFC 8926) begins with version 0 and the length of its options, and names an EtherType;
 * VXLAN (RFC 7348), also with a group policy, has a flag and no type, and GPE a number in its
 * place. IP itself begins what FOU, bareudp and variant 1 of GUE carry; variant 0 of GUE names an
 * IP protocol.
 */
static __always_inline bool enter_udp(struct view *v, const unsigned char *l4, const __be16 *h)
{
	const unsigned char *data = (const unsigned char *)h + UDP_HLEN;
	const __u8 first = data[0], second = data[1];
	const __be16 type = h[5];

	if (!is_tunnel_port(h[1]))
		return false;
	v->l3 = l4 + UDP_HLEN;
	v->protocol = SOME_IP;
	if (first >> 4 == 4 || first >> 4 == 6)
		return true;
	if (first < GENEVE_VERSION &&
	    (type == bpf_htons(ETH_P_TEB) || type == bpf_htons(ETH_P_IP) ||
	     type == bpf_htons(ETH_P_IPV6))) {
		v->l3 += GENEVE_HLEN + first * 4;
		v->protocol = type;
		return true;
	}
	if (first < GUE_CONTROL && (second == IPPROTO_IPIP || second == IPPROTO_IPV6)) {
		v->l3 += GUE_HLEN + first * 4;
		return true;
	}
	v->l3 += VXLAN_HLEN;
	if (!(first & VXLAN_GPE) || type == bpf_htons(VXLAN_NEXT_ETHERNET))
		v->protocol = bpf_htons(ETH_P_TEB);
	return first & VXLAN_VNI;
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_DSTOPTS;
}

/*
 * The packet in the contents of an IP packet. Before them Linux puts the limit of nesting of an
 * IPv6 tunnel, and segment routing its segments.
 */
static __always_inline bool enter_contents(struct view *v, const unsigned char *l4, __u8 protocol)
{
	union {
		__u8 bytes[16];
		__be16 words[8];
	} h;
	__u32 i;

	for (i = 0; i < 3; i++) {
		if (!copy(&h, sizeof(h), v, l4))
			return false;
		if (!is_extension(protocol))
			break;
		protocol = h.bytes[0];
		l4 += (h.bytes[1] + 1) * 8;
	}
	if (protocol == IPPROTO_UDP)
		return enter_udp(v, l4, h.words);
	if (protocol == IPPROTO_GRE)
		return enter_gre(v, l4, h.words);
	v->l3 = l4;
	v->protocol = SOME_IP;
	return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6;
}

/* Finds out the version of an IP packet. */
static __always_inline bool find_ip(struct view *v)
{
	__u8 first;

	if (!copy(&first, sizeof(first), v, v->l3))
		return false;
	v->protocol = first >> 4 == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	return true;
}

/* Passes the header of an Ethernet frame. */
static __always_inline bool enter_frame(struct view *v)
{
	__be16 type;

	v->l3 += ETH_HLEN;
	if (!copy(&type, sizeof(type), v, v->l3 - sizeof(type)))
		return false;
	v->protocol = type;
	return true;
}

static __always_inline bool find_type(struct view *v)
{
	if (v->protocol == SOME_IP)
		return find_ip(v);
	return v->protocol != bpf_htons(ETH_P_TEB) || enter_frame(v);
}

static __always_inline bool enter(struct view *v)
{
	union {
		struct iphdr ip4;
		struct ipv6hdr ip6;
		__be16 tag[2];
		__be32 label;
	} h;

	if (!copy(&h, sizeof(h), v, v->l3))
		return false;
	if (v->protocol == bpf_htons(ETH_P_IP))
		return !(h.ip4.frag_off & bpf_htons(IP_MF_OFFSET)) &&
		       enter_contents(v, v->l3 + h.ip4.ihl * 4, h.ip4.protocol);
	if (v->protocol == bpf_htons(ETH_P_IPV6))
		return enter_contents(v, v->l3 + sizeof(h.ip6), h.ip6.nexthdr);
	v->l3 += VLAN_HLEN;
	if (is_vlan(v->protocol)) {
		v->protocol = h.tag[1];
		return true;
	}
	if (v->protocol != bpf_htons(ETH_P_MPLS_UC))
		return false;
	if (h.label & bpf_htonl(MPLS_BOTTOM))
		v->protocol = SOME_IP;
	return true;
}

/*
 * The length of the outermost header of a packet, and in the lowest 16 bits the EtherType of what
 * is behind it; 0 if no packet is. A global function of numbers: the verifier follows it once.
 */
__noinline __u64 header_around(__u64 l3, __u64 tail, __u64 skb, __u32 protocol)
{
	struct view v = { (const void *)l3, (const void *)tail, (const void *)skb, protocol };

	return enter(&v) && find_type(&v) ? ((__u64)v.l3 - l3) << 16 | v.protocol : 0;
}

/* Passes all headers around the innermost packet; false if there are none. */
static __noinline bool enter_all(struct view *v)
{
	__u64 header;
	__u32 i;

	/* Makes numbers of addresses that are pointers with a type. */
	if (bpf_probe_read_kernel(v, sizeof(*v), v))
		return false;
	for (i = 0; i < PT_OUTER_HEADERS; i++) {
		header = header_around((__u64)v->l3, (__u64)v->tail, (__u64)v->skb, v->protocol);
		if (!header)
			break;
		v->l3 += header >> 16;
		v->protocol = header;
	}
	return i;
}
