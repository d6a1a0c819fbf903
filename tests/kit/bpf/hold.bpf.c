// SPDX-License-Identifier: GPL-2.0-only
/*
 * A fault of known size at one side of one device, for probes with chosen sequence numbers: the
 * CPU is busy, the device's queue is filled before the probe, or the probe is dropped.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "probe.h"
#include "burn.h"

char LICENSE[] SEC("license") = "GPL";

enum { TC_ACT_SHOT = 2, MAX_COPIES = 64 };

const volatile __u32 l3 = ETH_HLEN; /* where a probe's layer 3 begins in the frame */
const volatile bool reply = false;

/* By sequence number: how long the CPU is busy, us, or how many copies are queued. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} chosen SEC(".maps");

/* How much is done to a probe; 0 if it is not chosen. `l4`: where its ICMP header begins. */
static __always_inline __u32 amount(struct __sk_buff *skb, __u32 *l4)
{
	struct pt_header icmp;
	__u32 sequence, *found;
	__u8 first, type;

	if (bpf_skb_load_bytes(skb, l3, &first, 1))
		return 0;
	*l4 = l3 + (first >> 4 == 6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	type = first >> 4 == 6 ? (reply ? ICMPV6_ECHO_REPLY : ICMPV6_ECHO_REQUEST)
			       : (reply ? ICMP_ECHOREPLY : ICMP_ECHO);
	if (bpf_skb_load_bytes(skb, *l4, &icmp, sizeof(icmp)) || icmp.type != type ||
	    icmp.magic != bpf_htons(PT_MAGIC) || icmp.flags & bpf_htons(PT_FLAG_DONTADD))
		return 0;
	sequence = bpf_ntohl(icmp.sequence);
	found = bpf_map_lookup_elem(&chosen, &sequence);
	return found ? *found : 0;
}

SEC("tc")
int burn_time(struct __sk_buff *skb)
{
	__u32 l4, us = amount(skb, &l4);

	if (us)
		burn(bpf_ktime_get_ns(), us * 1000ULL);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int drop(struct __sk_buff *skb)
{
	__u32 l4;

	return amount(skb, &l4) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/* So many bytes of copies that are no probes wait in the device's queue before the probe. */
SEC("tc")
int fill_queue(struct __sk_buff *skb)
{
	__be16 magic = bpf_htons(PT_MAGIC), none = 0;
	__u32 l4, i, copies, bytes = amount(skb, &l4);

	if (!bytes)
		return TC_ACT_UNSPEC;
	copies = bytes / skb->len;
	l4 += __builtin_offsetof(struct pt_header, magic);
	if (bpf_skb_store_bytes(skb, l4, &none, sizeof(none), 0))
		return TC_ACT_UNSPEC;
	for (i = 0; i < MAX_COPIES && i < copies; i++)
		bpf_clone_redirect(skb, skb->ifindex, 0);
	bpf_skb_store_bytes(skb, l4, &magic, sizeof(magic), 0);
	return TC_ACT_UNSPEC;
}

/* What a device receives goes on at another. */
const volatile __u32 redirect_to = 0;

SEC("xdp")
int xdp_redirect(void *frame)
{
	return bpf_redirect(redirect_to, 0);
}

enum { XDP_PASS = 2 };

SEC("xdp")
int xdp_pass(void *frame)
{
	return XDP_PASS;
}

SEC("tc")
int redirect_neigh(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) ? bpf_redirect_neigh(redirect_to, 0, 0, 0)
						    : TC_ACT_UNSPEC;
}

SEC("tc")
int redirect_peer(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) ? bpf_redirect_peer(redirect_to, 0)
						    : TC_ACT_UNSPEC;
}
