// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes a server's stamps into the kernel's own echo reply, at tc egress (WIRE.md, version 1).
 * No CO-RE in this object: it loads on a kernel without BTF.
 *
 * What happens after this hook, the queueing discipline and the driver, cannot travel in the same
 * reply. It travels in the next one: `delivered` walks after `handed_over` through the session's
 * sequence numbers, and each stamp says in `aux` how many numbers back its probe is.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "probe.h"
#include "table.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 netns = 0;

struct pt_losses losses;
__u64 written; /* replies that were stamped */

enum { LATE_TRIES = 8 };

/* What is to be written, and what stands there now. */
struct scratch {
	struct pt_stamp fresh[PT_INBAND_MAX];
	struct pt_stamp old[PT_INBAND_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct reply {
	struct pt_header icmp;
	__be32 peer[4];
	__u32 offset; /* of the ICMP header in the frame */
	__u32 session, sequence, room;
};

static __always_inline bool find4(struct __sk_buff *skb, __u32 l3, struct reply *r)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.protocol != IPPROTO_ICMP ||
	    (ip.frag_off & bpf_htons(IP_MF_OFFSET)))
		return false;
	r->offset = l3 + ip.ihl * 4;
	r->peer[0] = r->peer[1] = 0;
	r->peer[2] = bpf_htonl(0xffff);
	r->peer[3] = ip.daddr;
	return true;
}

static __always_inline bool find6(struct __sk_buff *skb, __u32 l3, struct reply *r)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_ICMPV6)
		return false;
	r->offset = l3 + sizeof(ip);
	__builtin_memcpy(r->peer, ip.daddr, 16);
	return true;
}

/* An echo reply of version 1 that asks for stamps, with the room that it really has. */
static __always_inline bool find(struct __sk_buff *skb, __u32 l3, struct reply *r)
{
	struct pt_header *h = &r->icmp;
	__u32 capacity, end;
	__u8 type;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (!find4(skb, l3, r))
			return false;
		type = ICMP_ECHOREPLY;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (!find6(skb, l3, r))
			return false;
		type = ICMPV6_ECHO_REPLY;
	} else {
		return false;
	}
	if (bpf_skb_load_bytes(skb, r->offset, h, sizeof(*h)))
		return false;
	if (h->type != type || h->magic != bpf_htons(PT_MAGIC) || h->version != 1 ||
	    (h->flags & bpf_htons(PT_FLAG_INBAND | PT_FLAG_DONTADD)) != bpf_htons(PT_FLAG_INBAND))
		return false;
	capacity = bpf_ntohs(h->capacity);
	end = r->offset + PT_V1_HEADER + capacity * sizeof(struct pt_stamp);
	if (end > skb->len || h->num >= capacity)
		return false;
	r->room = capacity - h->num;
	r->session = bpf_ntohl(h->session);
	r->sequence = bpf_ntohl(h->sequence);
	return true;
}

static __always_inline struct pt_record *record_at(const struct reply *r, __u32 hash,
						   __u32 sequence)
{
	struct pt_record *rec = pt_slot(hash, sequence);

	if (!rec || rec->sequence != sequence || rec->session != r->session ||
	    !pt_same_peer(rec->peer, r->peer))
		return 0;
	return rec;
}

/* Copies `count` stamps of a record behind the `n` that are there; returns the new number. */
static __always_inline __u32 gather(struct scratch *s, __u32 n, const struct pt_stamp *from,
				    __u32 count, __u32 room, __u16 aux)
{
	__u32 i;

	for (i = 0; i < PT_INBAND_MAX; i++) {
		if (i >= count)
			break;
		if (n >= PT_INBAND_MAX || n >= room) {
			__sync_fetch_and_add(&losses.no_room, count - i);
			break;
		}
		s->fresh[n] = from[i];
		s->fresh[n].aux = bpf_htons(aux);
		n++;
	}
	return n;
}

static __always_inline __u32 gather_late(struct scratch *s, __u32 n, const struct reply *r,
					 __u32 hash)
{
	struct pt_session *ses = pt_session_of(hash);
	struct pt_record *rec;
	__u32 i, seq;

	if (!ses)
		return n;
	if (ses->session != r->session || !pt_same_peer(ses->peer, r->peer)) {
		if (ses->session)
			__sync_fetch_and_add(&losses.session_evicted, 1);
		ses->session = r->session;
		__builtin_memcpy(ses->peer, r->peer, sizeof(ses->peer));
		ses->delivered = r->sequence;
		ses->handed_over = r->sequence - 1;
	}
	for (i = 0; i < LATE_TRIES; i++) {
		seq = ses->delivered;
		if ((__s32)(ses->handed_over - seq) < 0 || r->sequence - seq >= PT_AUX_PROVISIONAL)
			break;
		rec = record_at(r, hash, seq);
		if (rec && rec->state & PT_REC_OUT) {
			if (n + rec->used[PT_REPLY] > r->room || n + rec->used[PT_REPLY] > PT_INBAND_MAX)
				break;
			n = gather(s, n, rec->stamp[PT_REPLY], rec->used[PT_REPLY], r->room,
				   r->sequence - seq);
		}
		ses->delivered = seq + 1;
	}
	return n;
}

/* Replaces payload and checksum together: the sum over the packet stays right (RFC 1624). */
static __always_inline bool put(struct __sk_buff *skb, const struct reply *r, struct scratch *s,
				__u32 n)
{
	__u32 size = n * sizeof(struct pt_stamp);
	__u32 at = r->offset + PT_V1_HEADER + r->icmp.num * sizeof(struct pt_stamp);
	__u8 old_word[2] = { r->icmp.version, r->icmp.num }, new_word[2];
	__be16 from, to;
	__s64 diff;

	if (!size || size > sizeof(s->fresh))
		return false;
	if (bpf_skb_load_bytes(skb, at, s->old, size))
		return false;
	diff = bpf_csum_diff((void *)s->old, size, 0, 0, 0);
	if (diff < 0)
		return false;
	diff = bpf_csum_diff(0, 0, (void *)s->fresh, size, diff);
	new_word[0] = old_word[0];
	new_word[1] = old_word[1] + n;
	__builtin_memcpy(&from, old_word, 2);
	__builtin_memcpy(&to, new_word, 2);
	if (bpf_skb_store_bytes(skb, at, s->fresh, size, 0))
		return false;
	bpf_l4_csum_replace(skb, r->offset + 2, 0, diff, 0);
	bpf_skb_store_bytes(skb, r->offset + 8, new_word, sizeof(new_word), 0);
	bpf_l4_csum_replace(skb, r->offset + 2, from, to, 2);
	return true;
}

static __always_inline void stamp_reply(struct __sk_buff *skb, __u32 l3)
{
	struct pt_where at = { netns, skb->ifindex, 0 };
	struct pt_record *rec;
	struct scratch *s;
	__u32 zero = 0, hash, n;
	struct reply r;

	if (!find(skb, l3, &r))
		return;
	hash = pt_hash(r.peer, r.session);
	rec = record_at(&r, hash, r.sequence);
	s = bpf_map_lookup_elem(&scratches, &zero);
	if (!rec || !s || !(rec->state & PT_REC_LIVE))
		return;
	at.host = rec->host;
	n = gather(s, 0, rec->stamp[PT_REQUEST], rec->used[PT_REQUEST], r.room, 0);
	if (n < r.room && n < PT_INBAND_MAX) {
		pt_fill(&s->fresh[n], PT_R_TX_DEVQUEUE, bpf_ktime_get_ns(), &at);
		s->fresh[n].aux = bpf_htons(PT_AUX_PROVISIONAL);
		n++;
	}
	n = gather_late(s, n, &r, hash);
	if (put(skb, &r, s, n)) {
		rec->state &= ~PT_REC_OWED;
		written++;
	}
}

/* Devices with an Ethernet header, the loopback included. */
SEC("tcx/egress")
int inband_ether(struct __sk_buff *skb)
{
	stamp_reply(skb, ETH_HLEN);
	return TC_ACT_UNSPEC;
}

/* Devices whose frames begin at layer 3. */
SEC("tcx/egress")
int inband_raw(struct __sk_buff *skb)
{
	stamp_reply(skb, 0);
	return TC_ACT_UNSPEC;
}
