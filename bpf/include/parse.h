/* SPDX-License-Identifier: GPL-2.0-only */
/* Finds the probe in a packet, also inside of tunnels. */
#pragma once

/* Bytes in front of what says the protocol in an IP header of either version. */
enum { PROTOCOL_AT = 6 };

const volatile bool server = false;

struct packet {
	__u32 session, sequence;
	__be32 peer[4], local[4];
	__u64 cookie;
	__u64 end; /* where the packet ends, by what its headers say */
	enum pt_direction direction;
	__u16 flags, length;
	__be16 id;
	__u8 version, family, ttl;
};

/*
 * Whether this is the complete and consistent header of a probe, of either version. The ICMP id is
 * no part of it: address translations rewrite it.
 */
static __always_inline bool is_probe(const struct pt_header *h, __u8 request, __u8 reply)
{
	__u32 sequence = h->sequence;

	return h->magic == bpf_htons(PT_MAGIC) && (h->type == request || h->type == reply) &&
	       h->version <= 1 && !(h->flags & bpf_htons(PT_FLAG_DONTADD)) &&
	       h->sequence16 == (__be16)bpf_htons(bpf_ntohl(sequence));
}

static __always_inline void take_header(struct packet *p, const struct pt_header *h, __u8 request)
{
	p->session = bpf_ntohl(h->session);
	p->sequence = bpf_ntohl(h->sequence);
	p->direction = h->type == request ? PT_REQUEST : PT_REPLY;
	p->flags = bpf_ntohs(h->flags);
	p->id = h->id;
	p->version = h->version;
	p->cookie = h->cookie;
}

/* Takes the length of the message, with `header` before it; false if it is less than a header. */
static __always_inline bool accept_length(struct packet *p, const unsigned char *l3, __u32 total,
					  __u32 header)
{
	const __u32 least = p->version ? PT_V1_HEADER : sizeof(struct pt_header);

	p->end = (__u64)l3 + total;
	p->length = total - header;
	return total >= header + least;
}

/* The stack pulls the two parts into the linear part one by one. */
static __always_inline bool copy_icmp(struct pt_header *h, const struct view *v,
				      const unsigned char *l4)
{
	return copy(h, ICMP_HLEN, v, l4) &&
	       copy((char *)h + ICMP_HLEN, sizeof(*h) - ICMP_HLEN, v, l4 + ICMP_HLEN);
}

/*
 * Drivers that receive into pages may leave all that follows the Ethernet header there
 * (napi_gro_frags; virtio_net without build_skb). The common case is one read.
 */
static __always_inline bool parse4(const struct view *v, struct packet *p, bool *outer)
{
	struct {
		struct iphdr ip;
		struct pt_header icmp;
	} b;
	bool linear = v->l3 + sizeof(b) <= v->tail;

	if (linear ? bpf_probe_read_kernel(&b, sizeof(b), v->l3)
		   : !copy(&b.ip, sizeof(b.ip), v, v->l3))
		return false;
	if (b.ip.protocol != IPPROTO_ICMP) {
		*outer = may_carry(b.ip.protocol, linear && b.ip.ihl == 5 ? &b.icmp : 0);
		return false;
	}
	if (b.ip.version != 4 || (b.ip.frag_off & bpf_htons(IP_MF_OFFSET)))
		return false;
	if ((!linear || b.ip.ihl != 5) && !copy_icmp(&b.icmp, v, v->l3 + b.ip.ihl * 4))
		return false;
	if (!is_probe(&b.icmp, ICMP_ECHO, ICMP_ECHOREPLY))
		return false;
	take_header(p, &b.icmp, ICMP_ECHO);
	if (!accept_length(p, v->l3, bpf_ntohs(b.ip.tot_len), b.ip.ihl * 4))
		return false;
	p->family = 4;
	p->ttl = b.ip.ttl;
	p->peer[0] = p->peer[1] = p->local[0] = p->local[1] = 0;
	p->peer[2] = p->local[2] = bpf_htonl(0xffff);
	p->peer[3] = p->direction == PT_REQUEST ? b.ip.saddr : b.ip.daddr;
	p->local[3] = p->direction == PT_REQUEST ? b.ip.daddr : b.ip.saddr;
	return true;
}

static __always_inline bool parse6(const struct view *v, struct packet *p, bool *outer)
{
	struct {
		struct ipv6hdr ip;
		struct pt_header icmp;
	} b;
	bool linear = v->l3 + sizeof(b) <= v->tail;

	if (linear ? bpf_probe_read_kernel(&b, sizeof(b), v->l3)
		   : !copy(&b.ip, sizeof(b.ip), v, v->l3))
		return false;
	if (b.ip.nexthdr != IPPROTO_ICMPV6) {
		*outer = may_carry(b.ip.nexthdr, linear ? &b.icmp : 0);
		return false;
	}
	if (!linear && !copy_icmp(&b.icmp, v, v->l3 + sizeof(b.ip)))
		return false;
	if (!is_probe(&b.icmp, ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY))
		return false;
	take_header(p, &b.icmp, ICMPV6_ECHO_REQUEST);
	if (!accept_length(p, v->l3, sizeof(b.ip) + bpf_ntohs(b.ip.payload_len), sizeof(b.ip)))
		return false;
	p->family = 6;
	p->ttl = b.ip.hop_limit;
	__builtin_memcpy(p->peer, p->direction == PT_REQUEST ? b.ip.saddr : b.ip.daddr, 16);
	__builtin_memcpy(p->local, p->direction == PT_REQUEST ? b.ip.daddr : b.ip.saddr, 16);
	return true;
}

/* `outer` becomes true where the packet is no probe, but may have one inside. */
static __always_inline bool parse_ip(const struct view *v, struct packet *p, bool *outer)
{
	if (v->protocol == bpf_htons(ETH_P_IP))
		return parse4(v, p, outer);
	if (v->protocol == bpf_htons(ETH_P_IPV6))
		return parse6(v, p, outer);
	*outer = is_tag(v->protocol);
	return false;
}

/* Not inline: else the stack of 512 bytes does not suffice. */
static __noinline bool parse_again(const struct view *v, struct packet *p, bool *outer)
{
	return parse_ip(v, p, outer);
}

/* What is no probe itself: a tag that the sending host puts into a packet precedes layer 3. */
static __always_inline bool parse_inside(struct view *v, struct packet *p, bool at_data)
{
	bool outer = true;

	if (is_vlan(v->protocol) && !at_data) {
		if (!find_ip(v))
			return false;
		outer = false;
		if (parse_again(v, p, &outer))
			return true;
	}
	return outer && enter_all(v) && parse_again(v, p, &outer);
}

/* Whether a packet of this IP protocol is a probe, or may have one inside. */
static __always_inline bool is_of_interest(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6 || may_carry(protocol, 0);
}

/*
 * Most packets are of TCP and UDP. The socket that sends one says so before any header is read; the
 * small ones that TCP has at the begin and the end of a connection have no protocol.
 */
static __always_inline bool is_of_no_interest(struct sk_buff *skb)
{
	struct sock *sk = skb->sk;
	__u8 state;

	if (!sk)
		return false;
	state = sk->__sk_common.skc_state;
	if (state == TCP_NEW_SYN_RECV || state == TCP_TIME_WAIT)
		return true;
	return sk->sk_protocol == IPPROTO_TCP ||
	       (sk->sk_protocol == IPPROTO_UDP && !tunnel_ports[0]);
}

/* Linux 6.2 and later: the verifier makes a plain load of it, where a helper takes some 30 ns. */
extern void *bpf_rdonly_cast(const void *from, __u32 type) __ksym __weak;

/* Of IPv4 the protocol is the fourth byte there, of IPv6 the first one; 0 if it cannot be read. */
static __always_inline __u8 protocol_of(const unsigned char *l3, bool v4)
{
	__u8 at[4] = {};

	if (bpf_ksym_exists(bpf_rdonly_cast)) {
		const struct iphdr *ip4 = bpf_core_cast(l3, struct iphdr);
		const struct ipv6hdr *ip6 = bpf_core_cast(l3, struct ipv6hdr);

		return v4 ? ip4->protocol : ip6->nexthdr;
	}
	bpf_probe_read_kernel(at, sizeof(at), l3 + PROTOCOL_AT);
	return v4 ? at[3] : at[0];
}

/* By one small read. */
static __always_inline bool may_be_probe(const struct sk_buff *skb, const unsigned char *head,
					 const unsigned char *l3)
{
	const bool v4 = skb->protocol == bpf_htons(ETH_P_IP);

	if ((!v4 && skb->protocol != bpf_htons(ETH_P_IPV6)) ||
	    l3 + PROTOCOL_AT + 4 > head + skb->tail)
		return true;
	return is_of_interest(protocol_of(l3, v4));
}

static __always_inline bool parse_any(struct sk_buff *skb, const unsigned char *head,
				      const unsigned char *l3, struct packet *p)
{
	struct view v = { l3, head + skb->tail, skb, skb->protocol };
	bool outer = false;

	if (!may_be_probe(skb, head, l3))
		return false;
	return parse_ip(&v, p, &outer) || (outer && parse_inside(&v, p, l3 == skb->data));
}

static __always_inline bool is_long_enough(const struct sk_buff *skb)
{
	return skb->len >= sizeof(struct iphdr) + sizeof(struct pt_header);
}

/* Layer 3 is where the network header is. */
static __always_inline bool parse(struct sk_buff *skb, struct packet *p)
{
	const unsigned char *head;

	if (!is_long_enough(skb) || is_of_no_interest(skb))
		return false;
	head = skb->head;
	return parse_any(skb, head, head + skb->network_header, p);
}

/* The network header is not set yet: layer 3 starts at skb->data. */
static __always_inline bool parse_data(struct sk_buff *skb, struct packet *p)
{
	return is_long_enough(skb) && parse_any(skb, skb->head, skb->data, p);
}

/* Whether all of the packet is there: the kernel drops one whose headers say more. */
static __always_inline bool is_whole(const struct sk_buff *skb, const struct packet *p)
{
	return p->end <= (__u64)skb->data + skb->len;
}

static __always_inline __u32 netns_of(struct sk_buff *skb)
{
	return skb->dev->nd_net.net->ns.inum;
}
